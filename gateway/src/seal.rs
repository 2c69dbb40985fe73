//! Sealing: what must stay secret in the store is encrypted and bound to its place (XChaCha20-Poly1305, random nonces,
//! the place as associated data). Keys come from a ring, so that they rotate. It does not know what it seals.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20::{R20, hchacha};
use postern_chassis::settings::SettingsError;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretBox};

/// The setting that names the key file, as errors call it.
const SETTING: &str = "--key-file";
/// The layout of a sealed value: version, length of the key's id, the id, the nonce, the ciphertext with its tag.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
/// How much of the nonce makes a key.
const DERIVING_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// The longest key id.
const MAX_KEY_ID: usize = 63;

/// Why something could not be sealed or opened. Says nothing of what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key that sealed it is not in the ring.
    #[error("it was sealed with the key {0:?}, which is not in the key file")]
    KeyMissing(String),
    /// It was changed, moved from its place, or never sealed by us.
    #[error("it does not open: it was changed or moved, or the key of that id is another one")]
    Refused,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// What the key for digests is derived for.
const DIGEST_KEY: &[u8] = b"postern digests";

/// One key.
struct Key {
    id: String,
    key: SecretBox<[u8; KEY_BYTES]>,
}

/// The keys: the newest seals, any opens.
pub struct KeyRing {
    /// In the order of the file: the newest last. Never empty.
    keys: Vec<Key>,
    random: SystemRandom,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl KeyRing {
    /// Reads a key file: one key a line, `ID BASE64(32 bytes)`, the newest last; empty lines and such that begin with
    /// `#` are passed over.
    ///
    /// # Errors
    /// The setting `--key-file` with the line that is wrong and what was expected. No key is shown.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let wrong =
            |problem: String| SettingsError::value(SETTING, format!("file {}: {problem}", path.display()));
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?);
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse(line)
                .ok_or_else(|| wrong(format!("line {number}: expected ID BASE64, a key of 32 bytes")))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(wrong(format!("line {number}: the key id {:?} is there twice", key.id)));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(wrong("holds no key: expected lines of ID BASE64, a key of 32 bytes".into()));
        }
        Ok(Self { keys, random: SystemRandom::new() })
    }

    /// Reads a key file, or makes one with a new key (mode 0600) where there is none.
    ///
    /// # Errors
    /// The setting `--key-file`: it cannot be read, made or understood.
    pub fn read_or_make(path: &Path) -> Result<Self, SettingsError> {
        match make(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "made a new key file: keep a copy of it, apart from the store");
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let problem = format!("file {} cannot be made: {error}", path.display());
                return Err(SettingsError::value(SETTING, problem));
            }
        }
        Self::read(path)
    }

    /// A key for digests of what holds secrets, so that a stolen store gives nothing to guess them by. It comes from the
    /// oldest key, which stays the same for as long as that one stays in the file.
    ///
    /// # Errors
    /// There is no key.
    pub fn digest_key(&self) -> Result<hmac::Key, SealError> {
        let oldest = self.keys.first().ok_or(SealError::Refused)?;
        let oldest = hmac::Key::new(hmac::HMAC_SHA256, &oldest.key.expose_secret()[..]);
        Ok(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&oldest, DIGEST_KEY).as_ref()))
    }

    /// Seals a value for its place, such as `connections/billing#credentials`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_written(place, plain.len(), |sealed| sealed.extend_from_slice(plain))
    }

    /// The same for a value of so many bytes that is written where it is sealed: no copy of it is left.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal_written(
        &self,
        place: &str,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, SealError> {
        let key = self.keys.last().ok_or(SealError::Refused)?;
        let mut nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).map_err(|_| SealError::NoRandom)?;
        let begin = 2 + key.id.len() + NONCE_BYTES;
        let mut sealed = Vec::with_capacity(begin + length + TAG_BYTES);
        sealed.extend([VERSION, u8::try_from(key.id.len()).map_err(|_| SealError::Refused)?]);
        sealed.extend_from_slice(key.id.as_bytes());
        sealed.extend_from_slice(&nonce);
        write(&mut sealed);
        let plain = sealed.get_mut(begin..).unwrap_or_default();
        let tag = encrypt(key.key.expose_secret(), &nonce, &bound_to(&key.id, place), plain)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// The key is missing, or the value was changed or belongs elsewhere.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let [VERSION, length, rest @ ..] = sealed else { return Err(SealError::Refused) };
        let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(SealError::Refused)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Refused)?;
        let id = std::str::from_utf8(id).map_err(|_| SealError::Refused)?;
        let key = self.keys.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| SealError::KeyMissing(id.to_owned()))?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let length = decrypt(key.key.expose_secret(), nonce, &bound_to(id, place), &mut opened)?;
        opened.truncate(length);
        Ok(opened)
    }
}

/// Encrypts in place.
fn encrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    plain: &mut [u8],
) -> Result<Tag, SealError> {
    let (cipher, nonce) = cipher(key, nonce)?;
    cipher.seal_in_place_separate_tag(nonce, Aad::from(bound), plain).map_err(|_| SealError::Refused)
}

/// Decrypts what ends with its tag in place, and gives how long it is then.
fn decrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    ciphertext: &mut [u8],
) -> Result<usize, SealError> {
    let (cipher, nonce) = cipher(key, nonce)?;
    let plain = cipher.open_in_place(nonce, Aad::from(bound), ciphertext);
    plain.map(|plain| plain.len()).map_err(|_| SealError::Refused)
}

/// XChaCha20-Poly1305 by ChaCha20-Poly1305: the first part of the nonce makes another key, and the rest is the nonce for
/// that (draft-irtf-cfrg-xchacha, 2.3).
fn cipher(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES]) -> Result<(LessSafeKey, Nonce), SealError> {
    let (first, rest) = nonce.split_first_chunk::<DERIVING_BYTES>().ok_or(SealError::Refused)?;
    let derived = Zeroizing::new(<[u8; KEY_BYTES]>::from(hchacha::<R20>(key.into(), first.into())));
    let derived = UnboundKey::new(&CHACHA20_POLY1305, &derived[..]).map_err(|_| SealError::Refused)?;
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - rest.len()..].copy_from_slice(rest);
    Ok((LessSafeKey::new(derived), Nonce::assume_unique_for_key(nonce)))
}

/// The associated data: neither the key's id nor the place may be exchanged.
fn bound_to(id: &str, place: &str) -> Vec<u8> {
    [&[VERSION], id.as_bytes(), b"\0", place.as_bytes()].concat()
}

/// Reads one line of a key file.
fn parse(line: &str) -> Option<Key> {
    let (id, key) = line.split_once(char::is_whitespace)?;
    let is_id = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_id || id.len() > MAX_KEY_ID {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(key.trim()).ok()?);
    let mut key = Box::new([0; KEY_BYTES]);
    if decoded.len() != KEY_BYTES {
        return None;
    }
    key.copy_from_slice(&decoded);
    Some(Key { id: id.to_owned(), key: SecretBox::new(key) })
}

/// A new key, as a line for a key file.
///
/// # Errors
/// The system has no random numbers.
pub fn new_key_line() -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(&mut bytes[..]).map_err(|_| std::io::Error::other("no random numbers"))?;
    let id: String = std::iter::repeat_with(fastrand::alphanumeric).take(8).collect();
    Ok(Zeroizing::new(format!("key-{} {}", id.to_ascii_lowercase(), STANDARD.encode(&bytes[..]))))
}

/// Makes a key file with one new key. It appears whole or not at all: it is written beside its place, then linked to it.
fn make(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    let line = Zeroizing::new(format!("{}\n", *new_key_line()?));
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&beside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    let made = file
        .write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(beside, path));
    std::fs::remove_file(beside)?;
    made?;
    // The name must outlive a power cut as well: what the key seals soon would be lost without it.
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => std::fs::File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn ring(lines: &[(&str, u8)]) -> Result<KeyRing, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let lines = lines.iter().map(|(id, byte)| format!("{id} {}\n", STANDARD.encode([*byte; KEY_BYTES])));
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        KeyRing::read(&path)
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let ring = ring(&[("k1", 1)]).unwrap();
        let sealed = ring.seal("connections/a#credentials", b"sesame").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"sesame"));
        assert_eq!(ring.open("connections/a#credentials", &sealed).unwrap().as_slice(), b"sesame");
        assert_eq!(ring.open("connections/b#credentials", &sealed), Err(SealError::Refused));
        assert_ne!(sealed, ring.seal("connections/a#credentials", b"sesame").unwrap());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(ring.open("connections/a#credentials", &changed).is_err(), "byte {place}");
        }
        assert_eq!(ring.open("connections/a#credentials", &sealed[..20]), Err(SealError::Refused));
    }

    /// The example of draft-irtf-cfrg-xchacha-03, A.3.1: what sealed values are must not change.
    #[test]
    fn the_cipher_is_the_one_that_is_named() {
        let bytes = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
        };
        let (key, nonce) =
            (std::array::from_fn(|at| 0x80 + at as u8), std::array::from_fn(|at| 0x40 + at as u8));
        let bound = bytes("50515253c0c1c2c3c4c5c6c7");
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let ciphertext = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4e\
            da7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921\
            f9664c97637da9768812f615c68b13b52e";
        let mut written = plain.to_vec();
        let tag = encrypt(&key, &nonce, &bound, &mut written).unwrap();
        assert_eq!(written, bytes(ciphertext));
        assert_eq!(tag.as_ref(), bytes("c0875924c1c7987947deafd8780acf49"));
        written.extend_from_slice(tag.as_ref());
        let length = decrypt(&key, &nonce, &bound, &mut written).unwrap();
        assert_eq!(written[..length], plain[..]);
    }

    #[test]
    fn keys_rotate_the_newest_seals_and_any_opens() {
        let old = ring(&[("k1", 1)]).unwrap().seal("p", b"x").unwrap();
        let both = ring(&[("k1", 1), ("k2", 2)]).unwrap();
        assert_eq!(both.open("p", &old).unwrap().as_slice(), b"x");
        let new = both.seal("p", b"y").unwrap();
        assert_eq!(ring(&[("k1", 1)]).unwrap().open("p", &new), Err(SealError::KeyMissing("k2".into())));
        assert_eq!(ring(&[("k2", 3)]).unwrap().open("p", &new), Err(SealError::Refused));
    }

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let sealed = KeyRing::read_or_make(&path).unwrap().seal("p", b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyRing::read_or_make(&path).unwrap().open("p", &sealed).unwrap().as_slice(), b"x");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_wrong_key_file_is_named_without_showing_a_key() {
        let key = STANDARD.encode([7; 31]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        for (text, expected) in [
            (format!("k1 {key}\n"), "line 1: expected ID BASE64"),
            (String::new(), "holds no key"),
            (format!("# none\n\nk/1 {key}\n"), "line 3: expected ID BASE64"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = KeyRing::read(&path).unwrap_err().to_string();
            assert!(error.contains("--key-file") && error.contains(expected), "{error}");
            assert!(!error.contains(&key), "{error}");
        }
        assert!(ring(&[("k1", 1), ("k1", 2)]).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn a_ring_shows_no_key() {
        let shown = format!("{:?}", ring(&[("k1", 65)]).unwrap());
        assert_eq!(shown, "[\"k1\"]");
    }
}
