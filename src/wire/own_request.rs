//! A request that the site makes of itself (`--warm-up`, `--smoke`), as it is typed: `/health`, `HEAD https://shop.example/cart?full`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A request without a body. Written and read as it is typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OwnRequest {
    /// `GET` where none was typed.
    pub method: String,
    /// Whether the application is to think that its client came by https.
    pub https: bool,
    /// The Host field: `shop.example:8443`. None where only a path was typed.
    pub host: Option<String>,
    /// Path and query.
    pub target: String,
}

const EXPECTED: &str = "expected a path that begins with /, or a URL that begins with http:// or https://";

impl OwnRequest {
    /// Whether a word is where a request goes to; if not, it is a method.
    pub fn is_target(word: &str) -> bool {
        word.starts_with('/') || word.contains("://")
    }

    /// The Host field.
    pub fn authority(&self) -> &str {
        self.host.as_deref().unwrap_or("localhost")
    }

    /// The port that the client has used: that of the URL, or the usual one of its scheme.
    pub fn port(&self) -> u16 {
        let typed = self.host.as_deref().and_then(|host| port_of(host).ok().flatten());
        typed.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// `https://shop.example/cart`, or the path alone.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        match &self.host {
            Some(host) => format!("{scheme}://{host}{}", self.target),
            None => self.target.clone(),
        }
    }
}

impl FromStr for OwnRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<OwnRequest, String> {
        let (method, url) = match text.split_once(' ') {
            Some((method, url)) if !OwnRequest::is_target(method) => (method, url),
            _ => ("GET", text),
        };
        if method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase() || c == '-') {
            return Err(format!("{method:?} is no method, which is a word in capitals, as in HEAD /"));
        }
        if let Some(odd) = url.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return Err(format!(
                "{odd:?} cannot stand in a URL that is asked for; it is written in percents, as in %20"
            ));
        }
        let (https, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, Some(rest)),
            (_, rest) => (true, rest),
        };
        let Some(rest) = rest else {
            let is_path = url.starts_with('/') && !url.starts_with("//");
            let request = OwnRequest { method: method.into(), https: false, host: None, target: url.into() };
            return if is_path { Ok(request) } else { Err(EXPECTED.into()) };
        };
        let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        port_of(host)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(OwnRequest { method: method.into(), https, host: Some(host.into()), target: format!("{slash}{target}") })
    }
}

/// The port in `host:port`, if there is one. The rest has to be a host's name or address.
fn port_of(host: &str) -> Result<Option<u16>, String> {
    let wrong = || format!("{host:?} is no host, as in shop.example or shop.example:8443");
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let (inside, more) = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => (address, ":"),
        None => (name, ""),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c) || more.contains(c);
    if inside.is_empty() || !inside.chars().all(fits) {
        return Err(wrong());
    }
    port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)).transpose()
}

impl fmt::Display for OwnRequest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.method.as_str() {
            "GET" => f.write_str(&self.url()),
            method => write!(f, "{method} {}", self.url()),
        }
    }
}

impl TryFrom<String> for OwnRequest {
    type Error = String;

    fn try_from(text: String) -> Result<OwnRequest, String> {
        text.parse()
    }
}

impl From<OwnRequest> for String {
    fn from(request: OwnRequest) -> String {
        request.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OwnRequest, String> {
        text.parse()
    }

    #[test]
    fn a_path_is_enough_and_a_url_says_more() {
        for (text, method, authority, port, target) in [
            ("/", "GET", "localhost", 80, "/"),
            ("GET /a=b?c=d", "GET", "localhost", 80, "/a=b?c=d"),
            ("HEAD http://shop.example", "HEAD", "shop.example", 80, "/"),
            ("M-SEARCH https://shop.example?x", "M-SEARCH", "shop.example", 443, "/?x"),
            ("https://[::1]:8443/a%20b", "GET", "[::1]:8443", 8443, "/a%20b"),
            ("https://[::1]/", "GET", "[::1]", 443, "/"),
        ] {
            let request = read(text).unwrap();
            assert_eq!((request.method.as_str(), request.authority(), request.port()), (method, authority, port));
            assert_eq!(request.target, target);
            assert_eq!(read(&request.to_string()), Ok(request.clone()), "it is written as it is typed");
            let json = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<OwnRequest>(&json).unwrap(), request);
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_in_a_sentence() {
        for (text, why) in [
            ("", "expected a path"),
            ("GET", "expected a path"),
            ("health", "expected a path"),
            ("//shop.example/", "expected a path"),
            ("ftp://shop.example/", "expected a path"),
            ("HTTPS://shop.example/", "expected a path"),
            ("GET  /", "' ' cannot stand"),
            (" /", "\"\" is no method"),
            ("get /", "\"get\" is no method"),
            ("GET, /", "\"GET,\" is no method"),
            ("/a b", "' ' cannot stand"),
            ("/a#b", "'#' cannot stand"),
            ("/caf\u{e9}", "cannot stand"),
            ("/a\r\nHost: x", "cannot stand"),
            ("http:///a", "is no host"),
            ("http://:80/", "is no host"),
            ("http://user@shop/", "is no host"),
            ("http://shop:0/", "is no host"),
            ("http://shop:http/", "is no host"),
            ("http://shop:70000/", "is no host"),
            ("http://a:b:80/", "is no host"),
            ("http://[::1/", "is no host"),
        ] {
            let refusal = read(text).expect_err(text);
            assert!(refusal.contains(why), "{text:?}: {refusal}");
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }
}
