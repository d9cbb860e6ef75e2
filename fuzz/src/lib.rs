//! What several targets ask.

use mesh_http1::{HeadError, Parsed};

/// Asserts that what is not enough, or wrong, is so for its beginning as well: never complete. `whole` is what was made of
/// all bytes, `head_len` where the head in them ends.
pub fn beginnings_agree(
    bytes: &[u8],
    whole: Result<Parsed, HeadError>,
    head_len: usize,
    parse: impl Fn(&[u8]) -> Result<Parsed, HeadError>,
) {
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = parse(&bytes[..end]);
        match whole {
            Ok(Parsed::Partial) => assert_eq!(part, Ok(Parsed::Partial)),
            Ok(Parsed::Complete) if end < head_len => assert_eq!(part, Ok(Parsed::Partial)),
            Ok(Parsed::Complete) => assert_eq!(part, whole),
            Err(_) => assert_ne!(part, Ok(Parsed::Complete)),
        }
    }
}
