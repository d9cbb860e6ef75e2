//! Tokens that open what they should, and no more.

use proptest::prelude::*;

use super::*;
use crate::testing::{ID, at};

const MINUTE: Duration = Duration::from_secs(60);

fn id() -> SpiffeId {
    ID.parse().unwrap()
}

#[test]
fn a_token_opens_once() {
    let mut tokens = Tokens::new();
    let token = tokens.make(id(), 1, MINUTE, at(0)).unwrap();
    assert!(token.reveal().starts_with(PREFIX) && token.reveal().len() == PREFIX.len() + 64);
    assert_eq!(format!("{token:?}"), "Token");
    assert!(!format!("{tokens:?}").contains(token.reveal().strip_prefix(PREFIX).unwrap()));
    let from_file = format!("{}\n", token.reveal());
    assert_eq!(tokens.spend(&from_file, None, at(59)), Ok(id()));
    assert_eq!(tokens.spend(&from_file, None, at(59)), Err(SpendError::Unknown));
    assert!(tokens.grants().is_empty());
}

#[test]
fn a_token_opens_as_often_as_it_says() {
    let mut tokens = Tokens::new();
    let token = tokens.make(id(), 3, MINUTE, at(0)).unwrap();
    let other = "spiffe://mesh.test/ns/shop/sa/other".parse().unwrap();
    assert_eq!(
        tokens.spend(token.reveal(), Some(&other), at(1)),
        Err(SpendError::OtherIdentity)
    );
    for _ in 0..3 {
        assert_eq!(tokens.spend(token.reveal(), Some(&id()), at(1)), Ok(id()));
    }
    assert_eq!(
        tokens.spend(token.reveal(), Some(&id()), at(1)),
        Err(SpendError::Unknown)
    );
}

#[test]
fn a_token_expires_and_is_taken_back() {
    let mut tokens = Tokens::new();
    let token = tokens.make(id(), 1, MINUTE, at(0)).unwrap();
    assert_eq!(
        tokens.spend(token.reveal(), None, at(60)),
        Err(SpendError::Expired)
    );
    tokens.forget(at(60));
    assert_eq!(
        tokens.spend(token.reveal(), None, at(60)),
        Err(SpendError::Unknown)
    );

    let token = tokens.make(id(), 1, MINUTE, at(0)).unwrap();
    let hash = TokenHash::of(token.reveal()).unwrap();
    assert!(tokens.revoke(&hash) && !tokens.revoke(&hash));
    let two = [(); 2].map(|()| tokens.make(id(), 1, MINUTE, at(0)).unwrap());
    assert_eq!(tokens.revoke_all(&id()), 2);
    for token in two {
        assert_eq!(
            tokens.spend(token.reveal(), None, at(1)),
            Err(SpendError::Unknown)
        );
    }
}

#[test]
fn what_is_stored_is_taken_up_again() {
    let mut tokens = Tokens::new();
    let token = tokens.make(id(), 2, MINUTE, at(0)).unwrap();
    let mut again = Tokens::new();
    for (hash, grant) in tokens.grants() {
        let stored = hash.to_string().parse().unwrap();
        assert!(again.restore(stored, grant.clone(), at(30)));
        assert!(!Tokens::new().restore(*hash, grant.clone(), at(60)), "expired");
        let never = Grant {
            uses: 0,
            ..grant.clone()
        };
        assert!(!Tokens::new().restore(*hash, never, at(30)));
    }
    assert_eq!(again.spend(token.reveal(), None, at(30)), Ok(id()));
    for bad in [
        String::new(),
        "A".repeat(64),
        "a".repeat(63),
        "\u{e4}".repeat(32),
        "+1".repeat(32),
    ] {
        assert_eq!(bad.parse::<TokenHash>(), Err(NotAHash), "{bad:?}");
    }
}

#[test]
fn tokens_are_bounded() {
    let mut tokens = Tokens::new();
    let refused = |tokens: &mut Tokens, uses, ttl| tokens.make(id(), uses, ttl, at(0)).unwrap_err();
    assert_eq!(refused(&mut tokens, 0, MINUTE), MakeError::Uses);
    assert_eq!(refused(&mut tokens, MAX_USES + 1, MINUTE), MakeError::Uses);
    assert_eq!(refused(&mut tokens, 1, Duration::ZERO), MakeError::Ttl);
    assert_eq!(refused(&mut tokens, 1, MAX_TTL + MINUTE), MakeError::Ttl);
    for _ in 0..MAX_TOKENS {
        tokens.make(id(), 1, MINUTE, at(0)).unwrap();
    }
    assert_eq!(refused(&mut tokens, 1, MINUTE), MakeError::TooMany);
    tokens.make(id(), 1, MINUTE, at(60)).unwrap();
    assert_eq!(tokens.grants().len(), 1, "what has expired makes room");
}

proptest! {
    #[test]
    fn what_nobody_made_opens_nothing(text in ".{0,100}", digits in "[0-9a-f]{64}") {
        let mut tokens = Tokens::new();
        tokens.make(id(), 1, MINUTE, at(0)).unwrap();
        for presented in [text, format!("{PREFIX}{digits}")] {
            prop_assert_eq!(tokens.spend(&presented, None, at(1)), Err(SpendError::Unknown));
        }
    }

    #[test]
    fn no_order_of_uses_opens_more(uses in 1_u32..6, tries in proptest::collection::vec(0_u64..120, 0..20)) {
        let mut tokens = Tokens::new();
        let token = tokens.make(id(), uses, MINUTE, at(0)).unwrap();
        let opened = tries.iter().filter(|second| tokens.spend(token.reveal(), None, at(**second)).is_ok());
        let early = tries.iter().filter(|second| **second < 60).count();
        prop_assert_eq!(opened.count(), early.min(uses as usize));
    }
}
