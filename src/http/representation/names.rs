//! What names of files tell: where a path leads below a root, and whether a name holds a hash of what is in the file.

use crate::target::decode_path;

/// The way below a root that the path of a parsed head names, decoded once, as [`below`] has it. None as there, and if a slash is encoded:
/// the path could be read in two ways.
pub fn way_below(prefix: &[u8], path: &[u8], decoded: &mut Vec<u8>) -> Option<()> {
    decoded.clear();
    decode_path(path, decoded);
    let slashes = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'/').count();
    let length = below(prefix, decoded)?.len();
    if slashes(decoded) != slashes(path) {
        return None;
    }
    decoded.drain(..decoded.len() - length);
    Some(())
}

/// What follows a prefix and a slash: segments with single slashes between them; nothing for the root itself. A slash at the end stays. The
/// prefix has no slash at its end.
///
/// None if the path is not below it, or if the way leads anywhere but down: an empty segment, `.`, `..`, NUL.
pub fn below<'a>(prefix: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let below = path.strip_prefix(prefix)?.strip_prefix(b"/")?;
    let segments = below.strip_suffix(b"/").unwrap_or(below);
    let is_odd = |segment: &[u8]| matches!(segment, b"" | b"." | b"..") || segment.contains(&0);
    let is_root = below.is_empty();
    (is_root || !segments.split(|&byte| byte == b'/').any(is_odd)).then_some(below)
}

/// Whether a name holds a hash, so that its file never changes: `app.6b517d0d5813.css`, as Django's ManifestStaticFilesStorage names files
/// and WhiteNoise knows them.
pub fn is_hashed(name: &[u8]) -> bool {
    let is_hash = |part: &[u8]| part.len() == 12 && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&[u8]> = name.split(|&byte| byte == b'.').collect();
    match parts[..] {
        [first, ref between @ .., _extension] => !first.is_empty() && between.iter().any(|part| is_hash(part)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn way(prefix: &str, path: &str) -> Option<String> {
        let mut decoded = Vec::new();
        way_below(prefix.as_bytes(), path.as_bytes(), &mut decoded)?;
        Some(String::from_utf8_lossy(&decoded).into_owned())
    }

    #[test]
    fn a_path_leads_down_or_nowhere() {
        for (prefix, path, expected) in [
            ("/static", "/static/app.css", Some("app.css")),
            ("/static", "/static/a/b%20c", Some("a/b c")),
            ("/static", "/%73tatic/a", Some("a")),
            ("/static", "/static/", Some("")),
            ("/static", "/static/a/", Some("a/")),
            ("/static", "/static/..a/.b", Some("..a/.b")),
            ("/static", "/static/a\\..\\b", Some("a\\..\\b")),
            ("/static", "/static/%252e%252e/a", Some("%2e%2e/a")),
            ("", "/", Some("")),
            ("", "/a", Some("a")),
            ("/static", "/static", None),
            ("/static", "/staticx", None),
            ("/static", "/Static/a", None),
            ("/static", "*", None),
            ("/static", "/static//a", None),
            ("/static", "//static/a", None),
            ("/static", "/static/a//", None),
            ("/static", "/static/../a", None),
            ("/static", "/static/a/..", None),
            ("/static", "/static/a/../", None),
            ("/static", "/static/./a", None),
            ("/static", "/static/%2e%2E/a", None),
            ("/static", "/static/%2e", None),
            ("/static", "/static/a%2fb", None),
            ("/static", "/static%2Fa", None),
            ("/static", "/static/..%2fa", None),
            ("", "//", None),
            ("", "/..", None),
        ] {
            assert_eq!(way(prefix, path).as_deref(), expected, "{prefix} {path}");
        }
        assert_eq!(way("/static", "/static/a%00b"), None, "h1 refuses it, and so does this");
    }

    #[test]
    fn no_way_holds_a_step_that_does_not_lead_down() {
        let pieces =
            ["/", "..", ".", "%2e", "%2E", "%2f", "%5c", "\\", "a", "%00", "%25", "%252e", "//", "/static", "%c0%ae"];
        let mut random = Random(17);
        for _ in 0..100_000 {
            let path: String = (0..1 + random.below(8)).map(|_| pieces[random.below(pieces.len())]).collect();
            if let Some(way) = way("/static", &format!("/static/{path}")) {
                assert!(!way.starts_with('/') && !way.contains('\0'), "{path}");
                assert!(way.split('/').all(|segment| segment != ".." && segment != "."), "{path} is {way}");
            }
        }
    }

    #[test]
    fn a_hash_is_twelve_digits_before_the_extension() {
        for name in ["app.6b517d0d5813.css", "a.b.0123456789ab.js.map", "a.0123456789ab.js"] {
            assert!(is_hashed(name.as_bytes()), "{name}");
        }
        for name in
            ["app.css", "app.6b517d0d5813", ".6b517d0d5813.css", "app.6B517D0D5813.css", "app.6b517d0d581.css", ""]
        {
            assert!(!is_hashed(name.as_bytes()), "{name}");
        }
    }
}
