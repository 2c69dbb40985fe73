//! Sign-in by a certificate. The keys were made for these tests and open nothing.

use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{ClientCertificate, GetEmailsRequest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tonic_types::StatusExt as _;

use super::stage::Stage;

const KEY: &str = include_str!("certificate/key.pem");
const OTHER_KEY: &str = include_str!("certificate/other_key.pem");

/// A certificate for a key, PEM.
fn certificate(key: &str) -> String {
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["postern.example".into()]).unwrap();
    parameters.self_signed(&key).unwrap().pem()
}

fn by(certificate: &str, private_key: &str) -> Option<SignIn> {
    let (certificate, private_key) = (certificate.to_owned(), private_key.to_owned());
    Some(SignIn::ClientCertificate(ClientCertificate { certificate, private_key }))
}

fn trust(stage: &Stage, certificate: &str) {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    stage.graph.trust_certificate(&der).unwrap();
}

#[tokio::test]
async fn an_application_signs_in_by_its_certificate() {
    let mut stage = Stage::set_signed_out().await;
    let certificate = certificate(KEY);
    trust(&stage, &certificate);
    stage.sign_in_by(by(&certificate, KEY));
    assert!(stage.wrong_fields().await.is_empty());
    stage.deliver("by certificate");
    for _ in 0..2 {
        // An assertion is good for one use: each sign-in signs its own.
        stage.refresh().await.unwrap();
        assert_eq!(stage.subjects(GetEmailsRequest::default()).await, ["by certificate"]);
    }
    let sign_in = stage.graph.sign_ins().remove(0);
    assert_eq!((sign_in.proof, sign_in.grant_type.as_str()), ("assertion", "client_credentials"));
    assert_eq!(sign_in.scope, format!("{}/.default", stage.graph.url()));
}

#[tokio::test]
async fn a_certificate_that_the_platform_does_not_know_is_named() {
    let mut stage = Stage::set_signed_out().await;
    trust(&stage, &certificate(OTHER_KEY));
    stage.sign_in_by(by(&certificate(KEY), KEY));
    let refused = stage.refresh().await.unwrap_err();
    assert_eq!(reason_of(&refused), "CONFIGURATION_REFUSED");
    let told = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(
        (told["identity.error"].as_str(), told["identity.code"].as_str()),
        ("invalid_client", "AADSTS700027")
    );
    assert_eq!(told["field"], "outlook_credentials.client_certificate");
}

#[tokio::test]
async fn a_certificate_or_key_that_cannot_serve_is_named_before_anything_is_asked() {
    let mut stage = Stage::set_signed_out().await;
    let good = certificate(KEY);
    let elliptic = rcgen::KeyPair::generate().unwrap();
    let pkcs1 = KEY.replace("PRIVATE KEY", "RSA PRIVATE KEY");
    let (both, only_certificate, only_key): (&[&str], &[&str], &[&str]) =
        (&["certificate", "private_key"], &["certificate"], &["private_key"]);
    for (certificate, key, wrong) in [
        ("", "", both),
        ("nonsense", KEY, only_certificate),
        (KEY, KEY, only_certificate),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KEY, only_certificate),
        (&good, "nonsense", only_key),
        (&good, &good, only_key),
        (&good, &pkcs1, only_key),
        (&good, &elliptic.serialize_pem(), only_key),
        (&good, OTHER_KEY, only_key),
    ] {
        stage.sign_in_by(by(certificate, key));
        let wrong: Vec<String> =
            wrong.iter().map(|field| format!("outlook_credentials.client_certificate.{field}")).collect();
        assert_eq!(stage.wrong_fields().await, wrong);
        let refused = stage.refresh().await.unwrap_err();
        assert_eq!(reason_of(&refused), "FIELD_INVALID");
        assert!(!refused.message().contains("BEGIN RSA") && !refused.message().contains("MII"));
    }
    stage.sign_in_by(by(&good, KEY));
    stage.settings().tenant = "organizations".into();
    stage.settings().mailbox = "me".into();
    assert_eq!(stage.wrong_fields().await, ["outlook.mailbox", "outlook.tenant"]);
    assert!(stage.graph.sign_ins().is_empty());
}
