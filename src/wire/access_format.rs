//! The format of the access log: gunicorn's atoms. The master reads it; workers get its pieces.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// gunicorn's format, which is close to the "combined" one of Apache.
pub const DEFAULT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// The atoms of one letter.
pub const ATOMS: &str = "hlutrmUqHsBbfaTDMLp";

/// A format, read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessFormat {
    /// What a line is made of, in this order.
    pub pieces: Vec<Piece>,
    /// The response fields that are logged, as they are written in the format.
    pub response_fields: Vec<String>,
    /// The keys of environ that are logged.
    pub variables: Vec<String>,
}

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// `%(X)s`, X being one of [`ATOMS`].
    Atom(u8),
    /// `%({name}i)s`, lower case.
    RequestField(String),
    /// `%({name}o)s`: one of [`AccessFormat::response_fields`].
    ResponseField(usize),
    /// `%({name}e)s`: one of [`AccessFormat::variables`].
    Variable(usize),
}

impl FromStr for AccessFormat {
    type Err = String;

    fn from_str(format: &str) -> Result<AccessFormat, String> {
        if format.contains(['\n', '\r', '\0']) {
            return Err("expected one line".into());
        }
        let (mut read, mut text, mut rest) = (AccessFormat::default(), String::new(), format);
        while let Some((before, behind)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = behind.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let (atom, after) =
                atom(behind).ok_or_else(|| format!("expected %(atom)s or %% at %{}", beginning(behind)))?;
            read.add_text(&mut text);
            read.add_atom(atom)?;
            rest = after;
        }
        text.push_str(rest);
        read.add_text(&mut text);
        Ok(read)
    }
}

impl AccessFormat {
    fn add_text(&mut self, text: &mut String) {
        if !text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(text)));
        }
    }

    fn add_atom(&mut self, atom: &str) -> Result<(), String> {
        let unknown = || format!("there is no atom %({atom})s. `ostler --help` lists them.");
        let named = atom.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        self.pieces.push(match (named, atom.as_bytes()) {
            (Some(("", _)), _) => return Err(unknown()),
            (Some((name, "i")), _) => Piece::RequestField(name.to_ascii_lowercase()),
            (Some((name, "o")), _) => Piece::ResponseField(place(&mut self.response_fields, name)),
            (Some((name, "e")), _) => Piece::Variable(place(&mut self.variables, name)),
            (None, [letter]) if ATOMS.as_bytes().contains(letter) => Piece::Atom(*letter),
            _ => return Err(unknown()),
        });
        Ok(())
    }
}

/// Where the name stands; it is added where it is new.
fn place(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

/// Splits `(h)s rest`. `%(D)d` is what some write, and means the same.
fn atom(text: &str) -> Option<(&str, &str)> {
    let (atom, after) = text.strip_prefix('(')?.split_once(')')?;
    Some((atom, after.strip_prefix(['s', 'd'])?))
}

fn beginning(text: &str) -> String {
    text.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_falls_into_its_pieces() {
        let format: AccessFormat =
            r#"%(h)s "%(D)d" 100%% é %({X-Id}i)s %({server}o)s %({wsgi.x}e)s%({server}o)s"#.parse().unwrap();
        assert_eq!((format.response_fields, format.variables), (vec!["server".into()], vec!["wsgi.x".into()]));
        let text = |text: &str| Piece::Text(text.into());
        assert_eq!(
            format.pieces,
            [
                Piece::Atom(b'h'),
                text(" \""),
                Piece::Atom(b'D'),
                text("\" 100% é "),
                Piece::RequestField("x-id".into()),
                text(" "),
                Piece::ResponseField(0),
                text(" "),
                Piece::Variable(0),
                Piece::ResponseField(0),
            ]
        );
    }

    #[test]
    fn what_is_no_atom_is_refused() {
        for format in ["%", "%h", "%(h)", "%(h)x", "%(z)s", "%()s", "%({}i)s", "%({a}x)s", "%(h", "a\nb", "%({a}i"] {
            assert!(format.parse::<AccessFormat>().is_err(), "{format}");
        }
    }
}
