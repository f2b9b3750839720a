//! log-format of uWSGI in gunicorn's atoms, which are ostler's.

/// The format, and the variables that have no atom; each of those becomes `-`.
pub fn translated(format: &str) -> (String, Vec<String>) {
    // gunicorn's time has its brackets.
    let format = ["ltime", "ctime", "ftime"]
        .iter()
        .fold(format.to_owned(), |format, name| format.replace(&format!("[%({name})]"), &format!("%({name})")));
    let (mut result, mut missing, mut rest) = (String::new(), Vec::new(), format.as_str());
    while let Some((before, behind)) = rest.split_once("%(") {
        result += &before.replace('%', "%%");
        let Some((name, after)) = behind.split_once(')') else {
            result += "%%(";
            rest = behind;
            continue;
        };
        match atom(name) {
            Some(atom) => result += &atom,
            None => {
                missing.push(format!("%({name})"));
                result.push('-');
            }
        }
        rest = after;
    }
    (result + &rest.replace('%', "%%"), missing)
}

/// What stands for one of uWSGI's variables.
fn atom(name: &str) -> Option<String> {
    if let Some(key) = name.strip_prefix("var.") {
        return Some(format!("%({{{key}}}e)s"));
    }
    if let Some(key) = name.strip_prefix("header.") {
        return Some(format!("%({{{key}}}o)s"));
    }
    Some(
        match name {
            "addr" => "%(h)s",
            "user" => "%(u)s",
            "method" => "%(m)s",
            "uri" => "%({RAW_URI}e)s",
            "host" => "%({host}i)s",
            "proto" => "%(H)s",
            "uagent" => "%(a)s",
            "referer" => "%(f)s",
            "status" => "%(s)s",
            "size" | "rsize" => "%(B)s",
            "cl" => "%({content-length}i)s",
            "micros" => "%(D)s",
            "msecs" => "%(M)s",
            "secs" => "%(T)s",
            "ltime" | "ctime" | "ftime" => "%(t)s",
            "pid" => "%(p)s",
            _ => return None,
        }
        .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_becomes_an_atom_or_is_named() {
        let (format, missing) =
            translated(r#"%(addr) - %(user) [%(ltime)] "%(method) %(uri)" %(status) 5% %(wid) %(var.X) %(x"#);
        assert_eq!(format, r#"%(h)s - %(u)s %(t)s "%(m)s %({RAW_URI}e)s" %(s)s 5%% - %({X}e)s %%(x"#);
        assert_eq!(missing, ["%(wid)"]);
        format.parse::<ostler_wire::access_format::AccessFormat>().unwrap();
    }
}
