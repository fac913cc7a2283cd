//! The end of an object of our own: the SHA-256 of all before it, and a word that a half-written object does not have.

use sha2::{Digest, Sha256};

/// The last word.
pub type End = [u8; 8];

const SUM: usize = 32;

/// `body` as an object.
pub fn seal(mut body: Vec<u8>, end: &End) -> Vec<u8> {
    let digest = Sha256::digest(&body);
    body.extend_from_slice(&digest);
    body.extend_from_slice(end);
    body
}

/// What was sealed.
///
/// # Errors
/// In words: it is cut short, or altered.
pub fn open<'a>(object: &'a [u8], end: &End) -> Result<&'a [u8], String> {
    let body = object.len().checked_sub(SUM + end.len()).ok_or("it is cut short")?;
    let (body, trailer) = object.split_at(body);
    if &trailer[SUM..] != end {
        return Err("it is cut short".to_owned());
    }
    if Sha256::digest(body)[..] != trailer[..SUM] {
        return Err("its checksum does not match".to_owned());
    }
    Ok(body)
}
