//! What of a site is shown, and in which order, as the keys say.

/// What the keys have chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// By what the workers are sorted.
    pub sort: Sort,
    /// Only workers are shown whose line holds this, in any case.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Whether the keys are explained.
    pub help: bool,
}

/// By what workers are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// Generation and slot.
    #[default]
    Slot,
    /// The oldest request under way first.
    Request,
    /// The largest first.
    Memory,
    /// The one with most requests a second first.
    Rate,
}

impl Sort {
    /// As the last line names it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Slot => "slot",
            Sort::Request => "age of request",
            Sort::Memory => "memory",
            Sort::Rate => "requests/s",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Slot => Sort::Request,
            Sort::Request => Sort::Memory,
            Sort::Memory => Sort::Rate,
            Sort::Rate => Sort::Slot,
        }
    }
}

impl View {
    /// Obeys what was typed at once. Whether the view is to end.
    #[must_use]
    pub fn obey(&mut self, typed: &str) -> bool {
        // An arrow or its like; Escape alone ends the filter.
        if typed.len() > 1 && typed.starts_with('\x1b') {
            return false;
        }
        for key in typed.chars() {
            match key {
                '\x03' => return true,
                '\x1b' => (self.filter, self.typing, self.help) = (String::new(), false, false),
                '\r' | '\n' => (self.typing, self.help) = (false, false),
                '\x7f' | '\x08' if self.typing => drop(self.filter.pop()),
                key if self.typing && !key.is_control() => self.filter.push(key),
                'q' | 'Q' => return true,
                's' => self.sort = self.sort.next(),
                '/' | 'f' => (self.typing, self.help) = (true, false),
                '?' | 'h' => self.help = !self.help,
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_obeyed() {
        let mut view = View::default();
        assert!(!view.obey("ss") && view.sort == Sort::Memory);
        assert!(!view.obey("\x1b[A") && !view.obey("x\x01") && view.sort == Sort::Memory);
        assert!(!view.obey("/Slow q\x7f\r") && view.filter == "Slow " && !view.typing);
        assert!(!view.obey("?") && view.help);
        assert!(!view.obey("\x1b") && view == View { sort: Sort::Memory, ..View::default() });
        assert!(!view.obey("f") && view.typing && view.obey("\x03"));
        assert!(View::default().obey("q"));
    }
}
