//! Where answers may be posted: to the public alone, unless settings say otherwise. Names are judged by the addresses
//! that are connected to, each time they are looked up, so that no name leads elsewhere than was checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The longest URL.
const MAX_URL: usize = 2_000;
/// How long a name may take to be looked up while its asker waits. One that takes longer is judged when it is used.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(3);

/// What may be posted to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Targets {
    pub(super) allow_private: bool,
    pub(super) allow_http: bool,
}

/// A name or address that leads to nothing public.
#[derive(Debug, thiserror::Error)]
#[error("its address is private, loopback or link-local")]
pub(super) struct NotAllowed;

impl Targets {
    /// Checks a URL before it is kept.
    ///
    /// # Errors
    /// What is wrong with it and what was expected.
    pub(super) async fn check(&self, text: &str) -> Result<(), String> {
        let expected = if self.allow_http { "an http:// or https:// URL" } else { "an https:// URL" };
        if text.len() > MAX_URL {
            return Err(format!("is too long: expected {expected} of at most {MAX_URL} bytes"));
        }
        let url = Url::parse(text).map_err(|_| format!("is no URL: expected {expected}"))?;
        self.allowed(&url)?;
        let Some(host) = url.host_str() else { return Err(format!("has no host: expected {expected}")) };
        let looking = tokio::net::lookup_host((host, url.port_or_known_default().unwrap_or(443)));
        // A name that cannot be looked up now may be there when there is an answer to post.
        if !self.allow_private
            && literal(host).is_none()
            && let Ok(Ok(mut found)) = tokio::time::timeout(LOOK_UP_PATIENCE, looking).await
            && found.any(|address| !is_public(address.ip()))
        {
            return Err(format!("leads nowhere public: {NotAllowed}"));
        }
        Ok(())
    }

    /// Checks a URL that is about to be used, but for what its name leads to.
    ///
    /// # Errors
    /// What is wrong with it and what was expected.
    pub(super) fn allowed(&self, url: &Url) -> Result<(), String> {
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err("is no https:// URL: expected https://".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("names a user: expected a URL without".to_owned());
        }
        let address = url.host_str().and_then(literal);
        match address {
            Some(address) if !self.allow_private && !is_public(address) => {
                Err(format!("leads nowhere public: {NotAllowed}"))
            }
            _ => Ok(()),
        }
    }
}

impl Resolve for Targets {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| allow_private || is_public(address.ip()))
                .collect();
            if found.is_empty() {
                return Err(NotAllowed.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The address that a URL's host is, where it is one.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address is of the public internet (the registries of special-purpose addresses, RFC 6890, and what has
/// joined them).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127 | 224..=255, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [169, 254, ..] | [192, 168, ..] | [198, 18 | 19, ..] => true,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let segments = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // What is translated to IPv4 (RFC 6052), or carried over it (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(of(high, low)),
        // Protocols' own addresses (RFC 2928), and those of documents.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Of all else, global unicast alone.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Targets = Targets { allow_private: false, allow_http: false };

    #[test]
    fn what_is_not_of_the_public_internet_is_told() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn a_url_is_checked_however_it_writes_its_address() {
        for url in [
            "https://127.0.0.1/x",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://127.1./",
            "https://[::ffff:10.0.0.1]/",
            "https://localhost/",
            "https://0/",
            "http://example.org/",
            "ftp://example.org/",
            "https://a:b@example.org/",
            "https://",
            "nonsense",
        ] {
            assert!(STRICT.check(url).await.is_err(), "{url}");
        }
        let free = Targets { allow_private: true, allow_http: true };
        for url in ["http://127.0.0.1:8080/x", "http://localhost/", "https://[::1]/"] {
            assert_eq!(free.check(url).await, Ok(()), "{url}");
        }
        assert_eq!(STRICT.check("https://1.1.1.1/hook?key=1").await, Ok(()));
        assert!(STRICT.check(&format!("https://example.org/{}", "x".repeat(2_000))).await.is_err());
    }

    #[tokio::test]
    async fn a_name_is_judged_by_the_addresses_that_it_leads_to() {
        let refused = STRICT.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.is::<NotAllowed>(), "{refused}");
        let free = Targets { allow_private: true, allow_http: true };
        assert!(free.resolve("localhost".parse().unwrap()).await.unwrap().next().is_some());
    }
}
