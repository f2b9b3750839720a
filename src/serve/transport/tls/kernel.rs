//! Files by sendfile(2) within TLS: the kernel makes the records that are sent ("kTLS"), from the first larger file of a connection on.
//! Whatever comes is opened here as before, where a client may change its keys. A kernel that cannot do it changes nothing.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::{
    errno::Errno,
    getsockopt_impl, libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    setsockopt_impl, sockopt_impl,
    sys::socket::{getsockopt, setsockopt, sockopt::TcpUlp},
};
use ostler_tls::{ALERT, Records};
use zeroize::Zeroizing;

use super::{Open, Stage, Tls};

/// Whether the kernel may be asked: one before Linux 5.11 does not tell how many records it has made. Where it has no such module, it is asked
/// once, as it may look for the module on the disk.
static ASKED: LazyLock<AtomicBool> = LazyLock::new(|| {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    AtomicBool::new((numbers.next(), numbers.next()) >= (Some(5), Some(11)))
});

// linux/tls.h: what a cipher's key is set with, and how far the kernel has come with it.
const SHORT: usize = 40;
const LONG: usize = 56;
sockopt_impl!(ShortKey, Both, libc::SOL_TLS, libc::TLS_TX, [u8; SHORT]);
sockopt_impl!(LongKey, Both, libc::SOL_TLS, libc::TLS_TX, [u8; LONG]);

impl Tls {
    pub(super) fn is_left_to_kernel(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.records.is_left_to_kernel())
    }

    /// Leaves it to the kernel to make what is sent, where the kernel can and nothing is half out.
    pub(super) fn leave_to_kernel(&mut self, socket: &OwnedFd) {
        if let Stage::Open(open) = &mut self.stage
            && self.unsent.is_empty()
            && ASKED.load(Relaxed)
            && let Some(key) = open.records.for_kernel()
        {
            match setsockopt(socket, TcpUlp::default(), b"tls").and_then(|()| set_key(socket, &key)) {
                Ok(()) => open.records.leave_to_kernel(),
                Err(Errno::ENOENT) => ASKED.store(false, Relaxed),
                // A Unix socket, or a cipher suite that this kernel does not know.
                Err(_) => {}
            }
        }
    }

    /// Sends what `give` gives to the kernel, at most so many bytes. Reports it only when the socket has room again. The kernel says that it
    /// has taken bytes also where the last record of them waits for room in front of TCP, and a FIN would overtake that.
    pub(super) fn send_by_kernel(
        &mut self,
        socket: &OwnedFd,
        most: usize,
        give: impl FnOnce() -> io::Result<Option<usize>>,
    ) -> io::Result<Option<usize>> {
        if self.unsent.owed == 0 {
            let Stage::Open(open) = &mut self.stage else { return Err(io::ErrorKind::BrokenPipe.into()) };
            let Open { records, .. } = &mut **open;
            records.kernel_counts(next_number(records, socket)?).map_err(|fault| self.end_by(fault, socket))?;
            match give()? {
                Some(taken @ 1..) => self.unsent.owed = taken,
                nothing => return Ok(nothing),
            }
        }
        let mut room = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut room, PollTimeout::ZERO) {
            Ok(1..) => Ok(Some(self.unsent.report(most))),
            _ => Ok(None),
        }
    }
}

fn set_key(socket: &OwnedFd, key: &[u8]) -> nix::Result<()> {
    if let Ok(short) = key.try_into() {
        setsockopt(socket, ShortKey, short)
    } else if let Ok(long) = key.try_into() {
        setsockopt(socket, LongKey, long)
    } else {
        Err(Errno::EINVAL)
    }
}

/// The number of the kernel's next record.
fn next_number(records: &Records, socket: &OwnedFd) -> nix::Result<u64> {
    let last = |key: &[u8]| key.last_chunk().copied().map(u64::from_be_bytes).ok_or(Errno::EINVAL);
    match records.kernel_key_length() {
        SHORT => last(&Zeroizing::new(getsockopt(socket, ShortKey)?)[..]),
        _ => last(&Zeroizing::new(getsockopt(socket, LongKey)?)[..]),
    }
}

/// Sends a record of another kind than data.
pub(super) fn send_alert(socket: &OwnedFd, description: u8) {
    /// A control message of one byte, which says of what kind the record is, padded as cmsg(3) wants it.
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        kind: u8,
    }
    let mut content = Records::alert_content(description);
    let mut part = libc::iovec { iov_base: content.as_mut_ptr().cast(), iov_len: content.len() };
    // SAFETY: zeros are a header without anything behind it, and of musl's padding the only value.
    #[allow(unsafe_code)]
    let mut control = Control { header: unsafe { MaybeUninit::zeroed().assume_init() }, kind: ALERT };
    (control.header.cmsg_level, control.header.cmsg_type) = (libc::SOL_TLS, libc::TLS_SET_RECORD_TYPE);
    control.header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u8>()) as _;
    // SAFETY: zeros are a message without parts, address and control data.
    #[allow(unsafe_code)]
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = ((&raw mut control).cast(), size_of::<Control>() as _);
    // SAFETY: all that the message points to lives here. The kernel only reads.
    #[allow(unsafe_code)]
    unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const message, super::super::SEND.bits());
    }
}
