//! Why a request is not answered by the application.

/// A request that is not answered by the application: the status and one phrase for the log. The connection is closed after
/// the answer, because it is not known where the next request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 403, 404, 408, 413, 414, 417, 431, 500, 501 or 505
    pub status: u16,
    /// What is wrong, for the log; never holds the peer's bytes.
    pub why: &'static str,
}

impl Refusal {
    /// 400: malformed, or open to more than one reading.
    pub(crate) const fn malformed(why: &'static str) -> Self {
        Self { status: 400, why }
    }

    /// 413: a body that is too large for a number.
    pub(crate) const fn body_too_large(why: &'static str) -> Self {
        Self { status: 413, why }
    }

    /// 414: the request line is longer than allowed.
    pub(crate) const fn line_too_long(why: &'static str) -> Self {
        Self { status: 414, why }
    }

    /// 417: an expectation that is not met.
    pub(crate) const fn expectation(why: &'static str) -> Self {
        Self { status: 417, why }
    }

    /// 431: too many or too long fields.
    pub(crate) const fn fields_too_large(why: &'static str) -> Self {
        Self { status: 431, why }
    }

    /// 501: well formed, but not implemented by this server.
    pub(crate) const fn not_implemented(why: &'static str) -> Self {
        Self { status: 501, why }
    }

    /// 505: another major version.
    pub(crate) const fn version(why: &'static str) -> Self {
        Self { status: 505, why }
    }
}
