//! What moves with a connection beside its descriptor.

use zeroize::Zeroizing;

use super::tls::Tls;

/// The kinds of what moves.
const PLAIN: u8 = 0;
const TLS: u8 = 1;

/// The state of a transport that has moved here.
#[derive(Debug)]
pub(crate) enum TransportState {
    /// None: bytes travel as they are, or a handshake is to begin.
    Plain,
    Tls(Tls),
}

/// What moves, as bytes; wiped when they are dropped, as they may hold keys.
pub(crate) fn write(tls: Option<&Tls>) -> Zeroizing<Vec<u8>> {
    let Some(state) = tls.and_then(Tls::export) else { return Zeroizing::new(vec![PLAIN]) };
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 + size_of::<u32>() + state.len()));
    bytes.push(TLS);
    bytes.extend((state.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&state);
    bytes
}

impl TransportState {
    /// Reads it from the beginning of `packet`, and advances `packet` past it; `None` for a kind that this program does not know.
    pub fn read(packet: &mut &[u8]) -> Option<TransportState> {
        match *packet.split_off_first()? {
            PLAIN => Some(TransportState::Plain),
            TLS => {
                let length = u32::from_le_bytes(packet.split_off(..4)?.try_into().ok()?);
                Tls::import(packet.split_off(..length as usize)?).map(TransportState::Tls)
            }
            _ => None,
        }
    }
}
