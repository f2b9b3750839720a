//! Which fields an application must not see: those whose names become the same CGI variable as another's, and forwarding fields from a
//! peer that is not trusted.

use crate::{
    Refusal, RequestHead,
    proxy::forwarded::{self, Believed},
    syntax::{PLAIN, run},
};

/// What becomes of a field whose name holds an underscore: `X_Forwarded_For` would become the same variable as
/// `X-Forwarded-For`, which a proxy in front may have set or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OddNames {
    /// The field is hidden.
    Drop,
    /// The request is refused with 400.
    Refuse,
    /// The field is passed on. Two fields may become one variable.
    Dangerous,
}

/// Puts the indexes of the fields to hide into `hidden`, ascending, in place of what it held. `trusted`: the peer is the
/// proxy whose forwarding fields are believed; see forwarded.rs. Its own fields ([`Believed::own`]) are not hidden then.
pub fn hidden_fields(
    head: &RequestHead,
    bytes: &[u8],
    odd_names: OddNames,
    proxy: &Believed,
    trusted: bool,
    hidden: &mut Vec<u16>,
) -> Result<(), Refusal> {
    hidden.clear();
    let odd = head.odd_name && odd_names != OddNames::Dangerous;
    let is_odd = |name: &[u8]| odd && run(name, PLAIN) < name.len() && !(trusted && proxy.is_own(name));
    if odd && odd_names == OddNames::Refuse && head.fields.iter().any(|field| is_odd(field.name.of(bytes))) {
        return Err(Refusal::malformed("field's name with an underscore"));
    }
    let stranger = !trusted && (head.forwarding || proxy.schemes.is_some());
    if !odd && !stranger {
        return Ok(());
    }
    let names = (0..).zip(&head.fields).map(|(index, field)| (index, field.name.of(bytes)));
    let tells = |name: &[u8]| forwarded::is_forwarding(name) || proxy.tells_scheme(name);
    hidden.extend(names.filter(|(_, name)| is_odd(name) || stranger && tells(name)).map(|(index, _)| index));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, Parse, RequestReader};

    const LINES: [&str; 7] = [
        "Host: a",
        "X_Real: 1",
        "X-Forwarded-For: ::1",
        "x_forwarded-proto: https",
        "Forwarded: for=_a",
        "X-B.C: 1",
        "X-B: 1",
    ];

    fn hidden(odd_names: OddNames, trusted: bool) -> Result<Vec<u16>, Refusal> {
        let proxy = Believed { own: vec!["X_REAL".into()], ..Believed::default() };
        hidden_by(odd_names, &Believed::default(), trusted).inspect(|_| {
            let own = hidden_by(odd_names, &proxy, true);
            assert!(own.is_ok_and(|hidden| !hidden.contains(&1)), "the proxy's own");
        })
    }

    fn hidden_by(odd_names: OddNames, proxy: &Believed, trusted: bool) -> Result<Vec<u16>, Refusal> {
        let bytes = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", LINES.join("\r\n"));
        let mut head = RequestHead::default();
        let limits = Limits { line: 100, fields: 100, field: 100, head: 1000 };
        assert_eq!(RequestReader::default().read(&mut head, bytes.as_bytes(), &limits), Ok(Parse::Complete));
        let mut hidden = vec![99];
        hidden_fields(&head, bytes.as_bytes(), odd_names, proxy, trusted, &mut hidden)?;
        Ok(hidden)
    }

    #[test]
    fn a_strangers_field_of_the_scheme_is_hidden() {
        let proxy = Believed { schemes: Some(vec![("x-b".into(), "https".into())]), ..Believed::default() };
        assert_eq!(hidden_by(OddNames::Drop, &proxy, false), Ok(vec![1, 2, 3, 4, 6]));
        assert_eq!(hidden_by(OddNames::Drop, &proxy, true), Ok(vec![1, 3]));
    }

    #[test]
    fn odd_names_are_dropped_refused_or_passed() {
        assert_eq!(hidden(OddNames::Drop, true), Ok(vec![1, 3]));
        assert_eq!(hidden(OddNames::Refuse, true).unwrap_err().status, 400);
        assert_eq!(hidden(OddNames::Dangerous, true), Ok(vec![]));
    }

    #[test]
    fn a_strangers_forwarding_fields_are_hidden_however_they_are_spelt() {
        assert_eq!(hidden(OddNames::Drop, false), Ok(vec![1, 2, 3, 4]));
        assert_eq!(hidden(OddNames::Dangerous, false), Ok(vec![2, 3, 4]));
    }
}
