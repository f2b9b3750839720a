//! Texts become values: times, sizes, counts, masks, peers, pairs. An error says what was expected.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use ostler_wire::{ForwardedField, Peers};

/// Seconds, or a number with `ms`, `s`, `m`, `h` or `d`. Fractions are allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected seconds, or a number with ms, s, m, h or d".to_string();
    let (number, unit) = number_and_unit(text);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(expected()),
    };
    let seconds = number.parse::<f64>().map_err(|_| expected())? * factor;
    // A century; Instants can be computed with it, and so can a poll's milliseconds be.
    if seconds > 36500.0 * 86400.0 {
        return Err("expected less than a hundred years".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

/// Bytes, or a number with `k`, `M` or `G` (of 1024); `kB`, `KiB` and so on are the same.
pub fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected bytes, or a number with k, M or G".to_string();
    let (number, unit) = number_and_unit(text);
    let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(1 << shift).filter(|size| *size <= i64::MAX as u64).ok_or_else(expected)
}

/// A media type in small letters, without parameters; one `*` in it stands for any text.
pub fn media_range(text: &str) -> Result<String, String> {
    let small = text.to_ascii_lowercase();
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte))
    };
    match small.split_once('/') {
        Some((main, sub)) if is_token(main) && is_token(sub) && small.matches('*').count() < 2 => Ok(small),
        _ => Err("expected a type, such as text/html, text/* or application/*+json".into()),
    }
}

/// A size that fits into 32 bits.
pub fn small_size(text: &str) -> Result<u32, String> {
    let size = size(text)?;
    u32::try_from(size).ok().filter(|size| *size <= 1 << 30).ok_or_else(|| "expected at most 1G".into())
}

/// A whole number within these bounds.
pub fn count<T>(bounds: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String>
where
    T: TryFrom<u64>,
{
    move |text| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|number| digits && bounds.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match (*bounds.start(), *bounds.end()) {
            (least, u64::MAX) => format!("expected a whole number, at least {least}"),
            (least, most) => format!("expected a whole number from {least} to {most}"),
        })
    }
}

/// Octal, with or without a leading `0` or `0o`.
pub fn umask(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| "expected three octal digits, such as 022".into())
}

/// `KEY=VALUE`
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// One text that holds no control characters.
pub fn line(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err("expected a text without control characters".into()),
        false => Ok(text.into()),
    }
}

/// Puts addresses, networks, `unix:` and `*` together.
pub fn peers(parts: Vec<Peers>) -> Peers {
    Peers {
        unix: parts.iter().any(|part| part.unix),
        networks: parts.into_iter().flat_map(|part| part.networks).collect(),
    }
}

/// A field's name, in any case.
pub fn forwarded_field(text: &str) -> Result<ForwardedField, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => ForwardedField::XForwardedFor,
        "x-forwarded-proto" => ForwardedField::XForwardedProto,
        "x-forwarded-protocol" => ForwardedField::XForwardedProtocol,
        "x-forwarded-ssl" => ForwardedField::XForwardedSsl,
        "x-forwarded-host" => ForwardedField::XForwardedHost,
        "x-forwarded-port" => ForwardedField::XForwardedPort,
        "x-forwarded-prefix" => ForwardedField::XForwardedPrefix,
        "forwarded" => ForwardedField::Forwarded,
        "x-request-start" => ForwardedField::XRequestStart,
        _ => {
            return Err("expected x-forwarded-for, -proto, -protocol, -ssl, -host, -port, -prefix, forwarded or \
                        x-request-start"
                .into());
        }
    })
}

/// An address, a network, `unix:` or `*`.
pub fn peer(text: &str) -> Result<Peers, String> {
    let anywhere = || [("0.0.0.0", 0), ("::", 0)].map(|(ip, prefix)| (ip.parse().expect("an address"), prefix));
    match text {
        "*" => Ok(Peers { networks: anywhere().into(), unix: true }),
        "unix" | "unix:" => Ok(Peers { networks: Vec::new(), unix: true }),
        _ => Ok(Peers { networks: vec![network(text)?], unix: false }),
    }
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let expected = || "expected an address, a network such as 10.0.0.0/8, unix: or *".to_string();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| expected())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| expected())?;
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let prefix = prefix.unwrap_or(width);
    if prefix > width {
        return Err(expected());
    }
    // As gunicorn has it: 10.0.0.1/8 is probably a mistake of somebody who meant 10.0.0.1.
    match u32::from(width - prefix) {
        free if bits.trailing_zeros() >= free || bits == 0 => Ok((address, prefix)),
        _ => Err(format!("expected a network: {address} has bits beyond /{prefix}")),
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let milliseconds = |text| duration(text).map(|time| time.as_millis());
        for (text, expected) in [
            ("30", 30_000),
            ("0", 0),
            ("0.5", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1.5 d", 129_600_000),
            ("250ms", 250),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "-1", "1y", "1e9", "1.2.3", "s", "99999999999", "inf", "NaN"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in
            [("0", 0), ("8190", 8190), ("64k", 65536), ("10M", 10 << 20), ("2GiB", 2 << 30), ("1 KB", 1024)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "1.5k", "-1", "1T", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(small_size("2G").is_err());
    }

    #[test]
    fn media_ranges() {
        for (text, expected) in
            [("Text/HTML", "text/html"), ("text/*", "text/*"), ("application/*+json", "application/*+json")]
        {
            assert_eq!(media_range(text).as_deref(), Ok(expected));
        }
        for text in ["", "html", "text/", "/html", "*/*", "text/html;q=1", "text/a/b", "text/a b"] {
            assert!(media_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_have_bounds() {
        assert_eq!(count::<u16>(1..=512)("512"), Ok(512));
        assert_eq!(count::<u16>(1..=512)("513"), Err("expected a whole number from 1 to 512".into()));
        assert_eq!(count::<u64>(0..=u64::MAX)("-1"), Err("expected a whole number, at least 0".into()));
    }

    #[test]
    fn masks_are_octal() {
        assert_eq!((umask("022"), umask("22"), umask("0o077"), umask("0")), (Ok(0o22), Ok(0o22), Ok(0o77), Ok(0)));
        assert!(umask("8").is_err() && umask("1777").is_err() && umask("").is_err());
    }

    #[test]
    fn peers_are_addresses_networks_and_words() {
        let all =
            peers(["10.0.0.0/8", "::1", "unix:", "192.0.2.7"].into_iter().map(|text| peer(text).unwrap()).collect());
        assert!(all.unix);
        assert!(all.contains("10.9.9.9".parse().unwrap()) && all.contains("192.0.2.7".parse().unwrap()));
        assert!(!all.contains("192.0.2.8".parse().unwrap()));
        let everybody = peer("*").unwrap();
        assert!(everybody.unix && everybody.contains("2001:db8::1".parse().unwrap()));
        for text in ["", "10.0.0.1/8", "10.0.0.0/33", "::/129", "localhost", "10.0.0.0/", "1.2.3"] {
            assert!(peer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_have_a_key() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert!(pair("A").is_err() && pair("=b").is_err());
    }
}
