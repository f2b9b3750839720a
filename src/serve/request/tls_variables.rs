//! What an application finds in its environ of a connection's TLS, as Apache's mod_ssl names and writes it.

use ostler_tls::Facts;

pub(super) fn tls_variables(facts: &Facts) -> Vec<(String, Vec<u8>)> {
    let own = [("HTTPS", "on"), ("SSL_PROTOCOL", facts.protocol()), ("SSL_CIPHER", facts.cipher())];
    let mut variables: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, value: &str| variables.push((name.to_owned(), value.into()));
    own.iter().for_each(|(name, value)| add(name, value));
    if let Some(name) = &facts.server_name {
        add("SSL_TLS_SNI", name);
    }
    add("SSL_CLIENT_VERIFY", if facts.client_certificate.is_some() { "SUCCESS" } else { "NONE" });
    if let Some(shown) = facts.shown() {
        add("SSL_CLIENT_CERT", &shown.pem);
        add("SSL_CLIENT_S_DN", &shown.subject);
        add("SSL_CLIENT_I_DN", &shown.issuer);
        add("SSL_CLIENT_M_SERIAL", &shown.serial);
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_mod_ssl() {
        let mut facts = Facts {
            suite: 0xc02f,
            server_name: Some("site.example".into()),
            resumed: false,
            client_certificate: None,
            authorities: 0,
        };
        let text = |facts: &Facts| {
            let each = |(name, value): (String, Vec<u8>)| format!("{name}={}", String::from_utf8(value).unwrap());
            tls_variables(facts).into_iter().map(each).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(&facts),
            "HTTPS=on SSL_PROTOCOL=TLSv1.2 SSL_CIPHER=ECDHE-RSA-AES128-GCM-SHA256 SSL_TLS_SNI=site.example SSL_CLIENT_VERIFY=NONE"
        );
        facts.server_name = None;
        assert!(!text(&facts).contains("SNI"));
    }
}
