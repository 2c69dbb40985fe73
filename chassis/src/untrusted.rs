//! Whether a request over TLS failed because of whom it met: told from the errors below the one that is at hand.

use std::error::Error;
use std::io;

/// Whether an error comes of a certificate that was shown and is not trusted.
#[must_use]
pub fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // An I/O error hides what it was made of from its own `source`.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError::Expired;

    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_refused_certificate_is_found_below_other_errors_and_nothing_else_is() {
        let refused = || rustls::Error::InvalidCertificate(Expired);
        assert!(is_untrusted(&refused()));
        assert!(is_untrusted(&io::Error::other(refused())));
        assert!(is_untrusted(&Outer(io::Error::other(io::Error::other(refused())))));
        assert!(!is_untrusted(&Outer(io::Error::other(rustls::Error::DecryptError))));
        assert!(!is_untrusted(&Outer(io::ErrorKind::ConnectionRefused.into())));
    }
}
