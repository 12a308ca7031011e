//! Channel binding of a SCRAM login (RFC 5929, `tls-server-end-point`): the hash of the server's
//! certificate, made with the hash of its signature. A certificate signed with SHA-512 or Ed25519 has
//! no hash here, and the login goes on without binding.

use postgres_protocol::authentication::sasl::ChannelBinding;
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};

/// The binding to this certificate (DER), if its signature has a hash that is known here.
#[must_use]
pub(crate) fn end_point(certificate: &[u8]) -> Option<ChannelBinding> {
    let suite = match signature_oid(certificate)? {
        // MD5 and SHA-1 signatures are bound with SHA-256 (RFC 5929, 4.1); then RSA and ECDSA.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4 | 5 | 11]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => TLS13_AES_128_GCM_SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => {
            TLS13_AES_256_GCM_SHA384
        }
        _ => return None,
    };
    let hash = suite.tls13()?.common.hash_provider.hash(certificate);
    Some(ChannelBinding::tls_server_end_point(hash.as_ref().to_vec()))
}

/// Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, … }, … }
fn signature_oid(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = element(certificate, 0x30)?;
    let (_, after_tbs) = element(whole, 0x30)?;
    let (algorithm, _) = element(after_tbs, 0x30)?;
    element(algorithm, 0x06).map(|(oid, _)| oid)
}

/// The content of the DER element at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(usize::from(first));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
    rest.split_at_checked(digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_signature_of_a_certificate_is_found() {
        // SEQUENCE { SEQUENCE {}, SEQUENCE { OID ecdsa-with-SHA256 } }
        let der = [0x30, 0x0e, 0x30, 0x00, 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        assert_eq!(signature_oid(&der), Some(&der[8..]));
        assert!(end_point(&der).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_certificate_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = end_point(&bytes);
        }
    }
}
