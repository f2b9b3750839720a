//! Generated heads against a second reading: written from the RFCs' grammar alone, slow and plain, sharing nothing with the parser.

use super::*;
use crate::random::Random;

const TCHAR: &str = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DIGIT: &str = "0123456789";

/// Whether it is one or more of these characters.
fn made_of(text: &str, of: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| of.contains(c))
}

/// The naive reading; `None` refuses. Text is latin-1, as PEP 3333 wants.
fn naive(bytes: &[u8]) -> Option<Seen> {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let (empty, text) = text.strip_prefix("\r\n").map_or((0, text.as_str()), |text| (2, text));
    let (head, _) = text.split_once("\r\n\r\n")?;
    let lines: Vec<&str> = head.split("\r\n").collect();
    if lines.iter().any(|line| line.chars().any(|c| c < ' ' && c != '\t' || c == '\x7f')) {
        return None;
    }
    let mut seen = naive_request_line(lines[0])?;
    for line in &lines[1..] {
        let (name, value) = line.split_once(':')?;
        if !made_of(name, TCHAR) {
            return None;
        }
        seen.fields.push((name.into(), value.trim_matches([' ', '\t']).into()));
    }
    naive_meaning(&mut seen)?;
    seen.length = empty + head.chars().count() + 4;
    Some(seen)
}

fn naive_request_line(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { return None };
    let number = version.strip_prefix("HTTP/")?;
    let visible = target.chars().all(|c| ('!'..='~').contains(&c) && c != '#');
    if !made_of(method, TCHAR) || !visible || method == "CONNECT" {
        return None;
    }
    if number.len() != 3 || !number.starts_with("1.") || !made_of(&number[2..], DIGIT) {
        return None;
    }
    let mut seen = Seen { method: method.into(), target: target.into(), http10: number == "1.0", ..Seen::default() };
    let lower = target.to_ascii_lowercase();
    let rest = if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        target
    } else {
        let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme))?;
        let rest = &target[scheme.len()..];
        let authority = rest.split(['/', '?']).next()?;
        if !naive_host(authority) || authority.is_empty() {
            return None;
        }
        seen.authority = Some(authority.into());
        &rest[authority.len()..]
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let number =
        |part: &str| u8::from_str_radix(&part.chars().take(2).filter(char::is_ascii_hexdigit).collect::<String>(), 16);
    if path.split('%').skip(1).any(|part| {
        part.chars().nth(1).is_none_or(|c| !c.is_ascii_hexdigit())
            || !part.starts_with(|c: char| c.is_ascii_hexdigit())
            || number(part) == Ok(0)
    }) {
        return None;
    }
    seen.path = if path.is_empty() { "/".into() } else { path.into() };
    seen.query = query.into();
    Some(seen)
}

/// Registered names and IPv6 addresses of few shapes: those that are generated.
fn naive_host(host: &str) -> bool {
    const NAME: &str = "-._~!$&'()*+,;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let escaped = name.split('%').skip(1).all(|part| {
        part.len() >= 2
            && part.is_char_boundary(2)
            && u8::from_str_radix(&part[..2], 16).is_ok()
            && !part.starts_with('+')
    });
    let registered = escaped && name.chars().all(|c| NAME.contains(c) || c == '%');
    let literal =
        name.starts_with('[') && name.ends_with(']') && name[1..name.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
    let port_fits = port
        .is_none_or(|port| port.is_empty() || made_of(port, DIGIT) && port.len() < 6 && port.parse::<u16>().is_ok());
    host.is_empty() || !name.is_empty() && (registered || literal) && port_fits
}

fn naive_meaning(seen: &mut Seen) -> Option<()> {
    let named = |name: &str| -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        seen.fields.iter().filter(same).map(|field| field.1.as_str()).collect()
    };
    if !named("content_length").is_empty()
        || seen.fields.iter().any(|f| f.0.to_lowercase().replace('_', "-") == "transfer-encoding" && f.0.contains('_'))
    {
        return None;
    }
    let host = match named("host")[..] {
        [host] if naive_host(host) => Some(host.to_owned()),
        [] if seen.http10 => None,
        _ => return None,
    };
    let framing = match (&named("content-length")[..], &named("transfer-encoding")[..]) {
        ([], []) => Framing::None,
        ([length], []) if made_of(length, DIGIT) => Framing::Length(length.parse().ok()?),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && !seen.http10 => Framing::Chunked,
        _ => return None,
    };
    let expectations = named("expect");
    if expectations.iter().any(|value| !value.eq_ignore_ascii_case("100-continue")) {
        return None;
    }
    let expects_continue =
        !expectations.is_empty() && !seen.http10 && !matches!(framing, Framing::None | Framing::Length(0));
    let options = named("connection").join(",").to_ascii_lowercase();
    let has = |option: &str| options.split(',').any(|other| other.trim_matches([' ', '\t']) == option);
    let keep_alive = !has("close") && (!seen.http10 || has("keep-alive"));
    (seen.host, seen.framing, seen.expects_continue, seen.keep_alive) = (host, framing, expects_continue, keep_alive);
    Some(())
}

/// Nearly always a good one, sometimes an odd one.
fn mostly<'a>(random: &mut Random, good: &[&'a str], odd: &[&'a str]) -> &'a str {
    let among = if random.once_in(12) { odd } else { good };
    random.pick(among)
}

fn head(random: &mut Random) -> Vec<u8> {
    let empty = mostly(random, &["", "", "\r\n"], &["\r\n\r\n", "\n"]);
    let method = mostly(random, &["GET", "POST", "PROPFIND", "get", "X-Y"], &["OPTIONS", "CONNECT", "", "G T"]);
    let targets =
        ["/", "/a/b%20c", "/?q", "/a?b?c", "//a", "http://a", "http://a:80/b?c", "HTTPS://[::1]/x", "http://a?b"];
    let target = mostly(random, &targets, &["*", "http:///", "a:80", "http://u@h/", "", "/#"]);
    let versions = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.7"];
    let version = mostly(random, &versions, &["HTTP/2.0", "HTTP/1.", "http/1.1", "HTTP/1.1 "]);
    let hosts = ["Host: a\r\n", "Host: a.b:80\r\n", "host:[::1]:8\r\n", "HOST: a%41\r\n", "Host:\r\n"];
    let host = mostly(random, &hosts, &["", "Host: a b\r\n", "Host: a\r\nHost: a\r\n"]);
    let mut text = format!("{empty}{method} {target} {version}\r\n{host}");
    for _ in 0..random.below(5) {
        let plain = [
            "Accept: */*\r\n",
            "X-Long: abcdefghijklmnop\tqrstuvwxyz  \r\n",
            "Cookie: a=b; c=d\r\n",
            "X:\r\n",
            "X_Y: z\r\n",
        ];
        let telling = [
            "Content-Length: 5\r\n",
            "content-length:  00\r\n",
            "Transfer-Encoding: Chunked\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, x\r\n",
            "Expect: 100-continue\r\n",
        ];
        let odd = [
            "Transfer-Encoding: gzip, chunked\r\n",
            "Expect: x\r\n",
            "Content_Length: 5\r\n",
            "Transfer_Encoding: chunked\r\n",
            " folded\r\n",
            "X : y\r\n",
            "Content-Length: +1\r\n",
        ];
        text += if random.once_in(3) { mostly(random, &telling, &odd) } else { random.pick(&plain) };
    }
    let mut bytes = [text.as_bytes(), b"\r\n"].concat();
    if random.once_in(3) {
        random.mutate(&mut bytes);
    }
    // A mutation may have taken the end away.
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

#[test]
fn generated_heads_are_read_as_the_naive_reading_reads_them() {
    let mut random = Random(1);
    let mut accepted = 0;
    for _ in 0..60_000 {
        let bytes = head(&mut random);
        let strict = read_within(&bytes, &LIMITS).ok().map(|seen| seen.expect("each case has an end"));
        let naive = naive(&bytes);
        accepted += u32::from(strict.is_some());
        assert_eq!(strict, naive, "{}", bytes.escape_ascii());
    }
    assert!((15_000..45_000).contains(&accepted), "both kinds are generated: {accepted} accepted");
}
