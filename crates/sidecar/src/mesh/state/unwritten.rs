//! What becomes of a configuration when the roots that are believed now can't be written down?

use super::tests::{block, directory, identity};
use super::*;

#[test]
fn no_configuration_is_kept_beside_roots_that_are_believed_no_more() {
    let path = directory("roots");
    let now = SystemTime::now();
    let mut state = State::open(&path).unwrap();
    state.keep_identity(identity("old", now)).unwrap();
    state.keep(Kept::default()).unwrap();
    let draft = block(&path, IDENTITY);
    let renewed = Identity {
        chain: "renewed chain".to_owned(),
        ..identity("old", now)
    };
    assert!(state.keep_identity(renewed).is_err());
    assert_eq!(
        state.configuration(),
        Ok(Some(Kept::default())),
        "the roots are the same"
    );
    state.keep(Kept::default()).unwrap();
    let error = state.keep_identity(identity("new", now)).unwrap_err().to_string();
    assert!(error.ends_with("serves nothing"), "{error}");
    assert!(state.keep(Kept::default()).is_err());
    assert_eq!(state.configuration(), Ok(None));
    fs::remove_dir(&draft).unwrap();
    state.keep(Kept::default()).unwrap();
    assert_eq!(state.configuration(), Ok(Some(Kept::default())));
    assert_eq!(state.identity().unwrap().unwrap().roots, "new roots");
    fs::remove_dir_all(&path).unwrap();
}
