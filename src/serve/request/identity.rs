//! What a request is called (`--request-id`): as a trusted peer says, or by a new name.

use ostler_http::proxy::identity::{Told, hide, told};
use slog::debug;

use super::incoming::Incoming;
use crate::shared::{Shared, names::Names};

impl Incoming {
    /// Names the request, if requests have ids.
    #[inline]
    pub(crate) fn identify(&mut self, shared: &Shared) {
        if let Some(names) = &shared.names {
            self.name(names, shared);
        }
    }

    #[inline(never)]
    fn name(&mut self, names: &Names, shared: &Shared) {
        let told = if self.trusted { told(&self.head, &self.bytes) } else { Told::Nothing };
        self.id.clear();
        match told {
            Told::Id(id) | Told::Trace(id) => self.id.push_str(id),
            Told::Unclean | Told::Nothing => names.make(&mut self.id),
        }
        self.adds_id = !matches!(told, Told::Id(_));
        // Where a trusted peer has told nothing there is nothing to hide.
        if self.adds_id && (!self.trusted || told == Told::Unclean) {
            hide(&self.head, &self.bytes, &mut self.hidden);
        }
        if told == Told::Unclean {
            debug!(shared.log, "request id replaced"; "request_id" => &self.id, "client" => &self.client.address,
                "reason" => "X-Request-ID holds no id of up to 64 letters, digits and +-./:=@_");
        }
    }
}
