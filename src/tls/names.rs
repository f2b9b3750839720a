//! Names and numbers in certificates, as OpenSSL writes them (RFC 2253), because that is what mod_ssl gives to applications.

use x509_cert::{
    attr::AttributeTypeAndValue,
    der::{Encode, Tag, Tagged},
    name::{Name, RelativeDistinguishedName},
};

/// OpenSSL's short names of attributes.
const KINDS: [(&str, &str); 29] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// A name. The last part comes first, and so does the last attribute of a part.
pub(crate) fn name(name: &Name) -> String {
    let part = |part: &RelativeDistinguishedName| reversed(part.iter().map(attribute).collect(), "+");
    reversed(name.iter_rdn().map(part).collect(), ",")
}

/// A serial number: DER's integer, whose first bit is its sign.
pub(crate) fn serial(integer: &[u8]) -> String {
    let negative = integer.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude = integer.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let zeros = magnitude.iter().take_while(|byte| **byte == 0).count().min(magnitude.len().saturating_sub(1));
    let digits = magnitude[zeros..].iter().map(|byte| format!("{byte:02X}"));
    digits.fold(if negative { "-" } else { "" }.to_owned(), |all, two| all + &two)
}

fn reversed(mut parts: Vec<String>, between: &str) -> String {
    parts.reverse();
    parts.join(between)
}

fn attribute(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.oid.to_string();
    let known = KINDS.iter().find(|(number, _)| *number == oid).map(|(_, kind)| *kind);
    match (known, text(attribute)) {
        (Some(kind), Some(text)) => format!("{kind}={}", escaped(&text)),
        (kind, _) => {
            let der = attribute.value.to_der().unwrap_or_default();
            let digits: String = der.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("{}=#{digits}", kind.unwrap_or(&oid))
        }
    }
}

/// What a string holds, of whichever of ASN.1's types it is.
fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let bytes = attribute.value.value();
    match attribute.value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString | Tag::TeletexString => {
            // OpenSSL takes each byte for a character of Latin-1.
            Some(bytes.iter().map(|byte| char::from(*byte)).collect())
        }
        Tag::BmpString => {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let escape = |(at, character): (usize, char)| match character {
        '#' | ' ' if at == 0 => format!("\\{character}"),
        ' ' if at == last => "\\ ".to_owned(),
        ',' | '+' | '"' | '\\' | '<' | '>' | ';' => format!("\\{character}"),
        '\0'..='\x1f' | '\x7f' => format!("\\{:02X}", u32::from(character)),
        character => character.to_string(),
    };
    text.chars().enumerate().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use x509_cert::der::{Any, asn1::ObjectIdentifier};

    use super::*;

    #[test]
    fn serial_numbers_are_written_without_their_sign_byte() {
        for (integer, written) in [
            (&[0, 0xff, 1][..], "FF01"),
            (&[0x0a, 0x1b, 0xff], "0A1BFF"),
            (&[0xfb], "-05"),
            (&[0x80], "-80"),
            (&[0xff, 0], "-0100"),
            (&[0], "00"),
            (&[], ""),
        ] {
            assert_eq!(serial(integer), written, "{integer:?}");
        }
    }

    #[test]
    fn attributes_are_written_by_openssl_s_names_whatever_their_strings_are() {
        let written = |oid: &str, tag: Tag, value: &[u8]| {
            let oid = ObjectIdentifier::new(oid).unwrap();
            attribute(&AttributeTypeAndValue { oid, value: Any::new(tag, value).unwrap() })
        };
        assert_eq!(written("2.5.4.3", Tag::TeletexString, b"\xc4dmin"), "CN=Ädmin");
        assert_eq!(written("2.5.4.3", Tag::BmpString, b"\0\xc4\0d"), "CN=Äd");
        assert_eq!(written("2.5.4.17", Tag::PrintableString, b" 8000 "), "postalCode=\\ 8000\\ ");
        assert_eq!(written("2.5.4.97", Tag::Utf8String, b"oi"), "organizationIdentifier=oi");
        assert_eq!(written("2.5.4.3", Tag::Utf8String, b"a\n,b"), "CN=a\\0A\\,b");
        assert_eq!(written("1.2.3.4", Tag::Utf8String, b"x"), "1.2.3.4=#0C0178");
        let several: Name = "CN=good,CN=x+OU=a,C=CH".parse().expect("it is a name");
        assert_eq!(name(&several), "CN=good,OU=a+CN=x,C=CH", "as `openssl x509 -nameopt RFC2253` has it");
    }
}
