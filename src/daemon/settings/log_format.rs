//! The access log's format: gunicorn's atoms, checked, and every conversion written as `s`.

/// The atoms of one letter.
const ATOMS: &str = "hlutrmUqHsBbfaTDMLp";

/// Checks a format and brings it to its plain form, in which each atom is `%(name)s` and a percent sign is `%%`.
pub fn check(format: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            plain.push_str("%%");
            rest = after;
            continue;
        }
        let (atom, after) = atom(rest).ok_or_else(|| format!("expected %(atom)s or %% at %{}", beginning(rest)))?;
        known(atom)?;
        plain.push_str(&format!("%({atom})s"));
        rest = after;
    }
    if format.contains(['\n', '\r', '\0']) {
        return Err("expected one line".into());
    }
    Ok(plain + rest)
}

/// Splits `(h)s rest`. `%(D)d` is what some write, and means the same.
fn atom(text: &str) -> Option<(&str, &str)> {
    let (atom, after) = text.strip_prefix('(')?.split_once(')')?;
    Some((atom, after.strip_prefix(['s', 'd'])?))
}

fn known(atom: &str) -> Result<(), String> {
    let named = atom.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let is_known = match named {
        Some((name, kind)) => !name.is_empty() && matches!(kind, "i" | "o" | "e"),
        None => atom.len() == 1 && ATOMS.contains(atom),
    };
    match is_known {
        true => Ok(()),
        false => Err(format!("there is no atom %({atom})s. `ostler --help` lists them.")),
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_atom_of_the_default_and_the_help_is_known() {
        let setting = crate::options::setting("access-logformat");
        let crate::options::Preset::Is(format) = setting.default else { panic!("it has a default") };
        assert_eq!(check(format).as_deref(), Ok(format));
        let atoms = setting.more.match_indices("%(").map(|(at, _)| atom(&setting.more[at + 1..]).unwrap().0);
        assert_eq!(atoms.map(|atom| known(atom).unwrap()).count(), ATOMS.len() + 3);
    }

    #[test]
    fn conversions_become_plain() {
        assert_eq!(check("100%% %(D)d %({X-Id}i)s é").as_deref(), Ok("100%% %(D)s %({X-Id}i)s é"));
    }

    #[test]
    fn what_is_no_atom_is_refused() {
        for format in ["%", "%h", "%(h)", "%(h)x", "%(z)s", "%()s", "%({}i)s", "%({a}x)s", "%(h", "a\nb", "%({a}i"] {
            assert!(check(format).is_err(), "{format}");
        }
    }
}
