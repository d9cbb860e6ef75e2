//! What becomes of a configuration that holds no more, when what holds can't be written down?

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

#[test]
fn a_configuration_that_can_t_be_taken_away_is_known_to_be_there() {
    let path = directory("void");
    let mut state = State::open(&path).unwrap();
    state.keep(Kept::default()).unwrap();
    let mut other = Kept::default();
    other.of = Owner {
        identity: "other".to_owned(),
        ..Owner::default()
    };
    let file = path.join(CONFIGURATION);
    // A folder is neither replaced nor removed as a file is.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = state.keep(other.clone()).unwrap_err().to_string();
    assert!(error.ends_with("serves what held before"), "{error}");
    assert!(state.is_void());
    fs::remove_dir(&file).unwrap();
    state.keep(other).unwrap();
    assert!(!state.is_void());
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_configuration_that_was_emptied_is_none() {
    let path = directory("emptied");
    let state = State::open(&path).unwrap();
    fs::write(path.join(CONFIGURATION), "").unwrap();
    assert_eq!(state.configuration(), Ok(None));
    fs::remove_dir_all(&path).unwrap();
}
