//! Which requests have no line in the access log.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Which requests have no line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessFilter {
    /// `--access-log-skip`: those for these paths, unless something went wrong.
    pub skip: Vec<Paths>,
    /// `--access-log-slow`: those that are over sooner; zero for none.
    pub slow: Duration,
}

/// A path, or all that begin with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    path: String,
    /// It was written with `*` at its end.
    and_below: bool,
}

impl AccessFilter {
    /// Whether a request has a line: `path` as sent, without the query; the status, 0 without a response.
    #[inline]
    pub fn admits(&self, path: &[u8], status: u16, total: Duration) -> bool {
        total >= self.slow && (self.skip.is_empty() || !self.skips(path, status))
    }

    /// A health check that fails is what somebody looks for.
    fn skips(&self, path: &[u8], status: u16) -> bool {
        (200..400).contains(&status) && self.skip.iter().any(|paths| paths.hold(path))
    }
}

impl Paths {
    fn hold(&self, path: &[u8]) -> bool {
        match self.and_below {
            true => path.starts_with(self.path.as_bytes()),
            false => path == self.path.as_bytes(),
        }
    }
}

impl FromStr for Paths {
    type Err = String;

    fn from_str(text: &str) -> Result<Paths, String> {
        let path = text.strip_suffix('*').unwrap_or(text);
        let as_sent = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic() && !"*?#".contains(c));
        match as_sent {
            true => Ok(Paths { path: path.into(), and_below: path.len() < text.len() }),
            false => {
                Err("expected a path as clients send it, such as /health, or the beginning of paths, such as /static/*"
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(skip: &[&str], slow: u64) -> AccessFilter {
        let skip = skip.iter().map(|text| text.parse().unwrap()).collect();
        AccessFilter { skip, slow: Duration::from_millis(slow) }
    }

    #[test]
    fn a_path_is_skipped_whole_or_with_what_begins_with_it() {
        let filter = filter(&["/health", "/static/*"], 0);
        let admits = |path: &str, status| filter.admits(path.as_bytes(), status, Duration::ZERO);
        for path in ["/health", "/static/", "/static/a/b"] {
            assert!(!admits(path, 200) && !admits(path, 304), "{path}");
            assert!(admits(path, 404) && admits(path, 503) && admits(path, 499) && admits(path, 0), "{path}");
        }
        for path in ["/", "/health/", "/healthz", "/static", "/Health"] {
            assert!(admits(path, 200), "{path}");
        }
    }

    #[test]
    fn only_slow_requests_have_lines() {
        let filter = filter(&[], 100);
        let admits = |milliseconds| filter.admits(b"/", 500, Duration::from_millis(milliseconds));
        assert!(admits(100) && admits(3000) && !admits(99));
    }

    #[test]
    fn what_no_client_sends_is_no_path() {
        for text in ["", "*", "health", "/a b", "/a?b", "/a*/b", "/ä", "/a#b"] {
            assert!(text.parse::<Paths>().is_err(), "{text}");
        }
        assert!("/*".parse::<Paths>().is_ok());
    }
}
