//! The media types of files, by the endings of their names.

/// A media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType {
    /// As in Content-Type, with the charset of a text.
    pub name: &'static str,
    /// Whether its files may lie compressed beside themselves: what is compressed already does not become smaller.
    pub compresses: bool,
}

/// The type of a file of this name. Text is UTF-8, as all frameworks write it.
pub fn media_type(name: &[u8]) -> MediaType {
    let ending = name.rsplit(|&byte| byte == b'.').next().filter(|ending| ending.len() < name.len());
    let mut small = [0; 16];
    let Some(small) = ending.and_then(|ending| {
        let place = small.get_mut(..ending.len())?;
        place.copy_from_slice(ending);
        place.make_ascii_lowercase();
        Some(&*place)
    }) else {
        return UNKNOWN;
    };
    let known = |table: &'static [(&str, &str)]| table.iter().find(|(ending, _)| ending.as_bytes() == small);
    match (known(PLAIN), known(COMPRESSED)) {
        (Some((_, name)), _) => MediaType { name, compresses: true },
        (None, Some((_, name))) => MediaType { name, compresses: false },
        (None, None) => UNKNOWN,
    }
}

/// Whether files of this type, written without parameters, are compressed in themselves.
pub fn is_compressed(media: &[u8]) -> bool {
    COMPRESSED.iter().any(|(_, name)| name.as_bytes().eq_ignore_ascii_case(media))
}

const UNKNOWN: MediaType = MediaType { name: "application/octet-stream", compresses: true };

/// Types that compression makes smaller.
static PLAIN: &[(&str, &str)] = &[
    ("atom", "application/atom+xml"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("eot", "application/vnd.ms-fontobject"),
    ("geojson", "application/geo+json"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("otf", "font/otf"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webmanifest", "application/manifest+json"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "text/xml; charset=utf-8"),
    ("xsl", "text/xsl; charset=utf-8"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
];

/// Types that are compressed in themselves.
static COMPRESSED: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("avif", "image/avif"),
    ("br", "application/x-brotli"),
    ("bz2", "application/x-bzip2"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("jxl", "image/jxl"),
    ("m4a", "audio/mp4"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_type_in_any_case() {
        for (name, expected, compresses) in [
            ("app.css", "text/css; charset=utf-8", true),
            ("APP.JS", "text/javascript; charset=utf-8", true),
            ("a.tar.gz", "application/gzip", false),
            ("logo.svg", "image/svg+xml", true),
            ("logo.png", "image/png", false),
            ("README", "application/octet-stream", true),
            ("css", "application/octet-stream", true),
            (".css", "text/css; charset=utf-8", true),
            ("a.averyveryverylongending", "application/octet-stream", true),
            ("", "application/octet-stream", true),
        ] {
            assert_eq!(media_type(name.as_bytes()), MediaType { name: expected, compresses }, "{name}");
        }
    }

    #[test]
    fn each_ending_stands_once_and_in_small_letters() {
        let mut endings: Vec<&str> = PLAIN.iter().chain(COMPRESSED).map(|(ending, _)| *ending).collect();
        assert!(endings.iter().all(|ending| ending.len() <= 16 && *ending == ending.to_ascii_lowercase()));
        endings.sort_unstable();
        assert!(endings.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
