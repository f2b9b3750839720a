//! The format of the access log: gunicorn's atoms, or JSON. The master reads it; workers get its pieces.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

mod filter;
pub mod json;

pub use filter::{AccessFilter, Paths};
pub use json::Field;

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
    /// Each line is an object of JSON.
    #[serde(default)]
    pub json: bool,
}

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// `%(X)s`, X being one of [`ATOMS`].
    Atom(u8),
    /// A value of JSON; `{generation}x` and `{worker}x` in any format.
    Value(Field),
    /// `{name}i`, lower case.
    RequestField(String),
    /// `{name}o`: one of [`AccessFormat::response_fields`].
    ResponseField(usize),
    /// `{name}e`: one of [`AccessFormat::variables`].
    Variable(usize),
}

/// Why a format cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// JSON has no field of this name.
    Field(String),
    /// Something else.
    Other(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Unreadable::Field(name) => write!(f, "there is no field {name:?}"),
            Unreadable::Other(why) => f.write_str(why),
        }
    }
}

impl FromStr for AccessFormat {
    type Err = Unreadable;

    fn from_str(format: &str) -> Result<AccessFormat, Unreadable> {
        if format.contains(['\n', '\r', '\0']) {
            return Err(Unreadable::Other("expected one line".into()));
        }
        match json::asked(format) {
            Some(names) => json::read(names),
            None => AccessFormat::of_atoms(format),
        }
    }
}

impl AccessFormat {
    /// Whether it asks for JSON.
    pub fn is_json(format: &str) -> bool {
        json::asked(format).is_some()
    }

    /// Whether every line would be the same: a word that was meant for another one, perhaps.
    pub fn is_constant(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    fn of_atoms(format: &str) -> Result<AccessFormat, Unreadable> {
        let (mut read, mut text, mut rest) = (AccessFormat::default(), String::new(), format);
        while let Some((before, behind)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = behind.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let expected = || Unreadable::Other(format!("expected %(atom)s or %% at %{}", beginning(behind)));
            let (atom, after) = atom(behind).ok_or_else(expected)?;
            read.add_text(&mut text);
            let piece = read.atom(atom)?;
            read.pieces.push(piece);
            rest = after;
        }
        text.push_str(rest);
        read.add_text(&mut text);
        Ok(read)
    }

    fn add_text(&mut self, text: &mut String) {
        if !text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(text)));
        }
    }

    fn atom(&mut self, atom: &str) -> Result<Piece, Unreadable> {
        match (named(atom), atom.as_bytes()) {
            (Some((name, kind)), _) => self.named(name, kind),
            (None, [letter]) if ATOMS.as_bytes().contains(letter) => Ok(Piece::Atom(*letter)),
            (None, _) => Err(Unreadable::Other(format!("there is no atom %({atom})s. `ostler --help` lists them."))),
        }
    }

    fn named(&mut self, name: &str, kind: &str) -> Result<Piece, Unreadable> {
        Ok(match (name, kind) {
            ("", _) => return Err(Unreadable::Other("expected a name between { and }".into())),
            (_, "i") => Piece::RequestField(name.to_ascii_lowercase()),
            (_, "o") => Piece::ResponseField(place(&mut self.response_fields, name)),
            (_, "e") => Piece::Variable(place(&mut self.variables, name)),
            ("generation", "x") => Piece::Value(Field::Generation),
            ("worker", "x") => Piece::Value(Field::Worker),
            (_, "x") => {
                return Err(Unreadable::Other(format!("expected generation or worker rather than {name} before x")));
            }
            _ => return Err(Unreadable::Other(format!("expected i, o, e or x behind {{{name}}}"))),
        })
    }
}

/// Splits `{name}i`.
fn named(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('{')?.split_once('}')
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
            r#"%(h)s "%(D)d" 100%% é %({X-Id}i)s %({server}o)s %({wsgi.x}e)s%({server}o)s%({generation}x)s"#.parse().unwrap();
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
                Piece::Value(Field::Generation),
            ]
        );
    }

    #[test]
    fn what_is_no_atom_is_refused() {
        for format in ["%", "%h", "%(h)", "%(h)x", "%(z)s", "%()s", "%({}i)s", "%({a}x)s", "%(h", "a\nb", "%({a}i"] {
            assert!(format.parse::<AccessFormat>().is_err(), "{format}");
        }
    }

    #[test]
    fn json_has_the_fields_that_are_named() {
        let format: AccessFormat = r#"json:status, {X-"Id"}i,{server}o,{wsgi.x}e"#.parse().unwrap();
        assert_eq!((format.response_fields, format.variables), (vec!["server".into()], vec!["wsgi.x".into()]));
        let text = |text: &str| Piece::Text(text.into());
        assert_eq!(
            format.pieces,
            [
                text("{\"status\":"),
                Piece::Value(Field::Status),
                text(r#","X-\"Id\"":"#),
                Piece::RequestField(r#"x-"id""#.into()),
                text(",\"server\":"),
                Piece::ResponseField(0),
                text(",\"wsgi.x\":"),
                Piece::Variable(0),
                text("}"),
            ]
        );
        let usual: AccessFormat = "json".parse().unwrap();
        assert_eq!(usual.pieces.len(), 2 * json::USUAL + 1);
        let unknown = |name: &str| Err(Unreadable::Field(name.into()));
        for (format, refused) in
            [("json:time,statsu", unknown("statsu")), ("json:", unknown("")), ("json:{a", unknown("{a"))]
        {
            assert_eq!(format.parse::<AccessFormat>(), refused);
        }
        for format in ["json:time,time", "json:{}i", "json:{a}x", "json:{a}i,{a}o"] {
            assert!(matches!(format.parse::<AccessFormat>(), Err(Unreadable::Other(_))), "{format}");
        }
        assert!(!"jsonify".parse::<AccessFormat>().unwrap().json);
    }
}
