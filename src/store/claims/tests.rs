use super::*;
use std::sync::Barrier;
use std::thread;
use tempfile::TempDir;

fn claims() -> (TempDir, Claims) {
    let dir = tempfile::tempdir().unwrap();
    let claims = Claims::new(dir.path());
    (dir, claims)
}

fn claim(checkpoint: &str) -> Claim {
    let container = "ab".repeat(32).parse().unwrap();
    Claim::new(
        container,
        checkpoint.parse().unwrap(),
        "cd".repeat(32),
        "/run/transship/gate".into(),
    )
}

#[test]
fn i1_a_claim_is_taken_once() {
    let (dir, claims) = claims();
    let claim = claim("0123456789abcdef");
    let id = claim.container.clone();
    assert_eq!(claims.take(&id).unwrap(), None);
    claims.place(&claim).unwrap();
    claims.place(&claim).unwrap();
    assert_eq!(claims.list().unwrap(), [(id.clone(), false)]);
    assert_eq!(claims.take(&id).unwrap(), Some(claim.clone()));
    assert_eq!(claims.take(&id).unwrap(), None);
    assert_eq!(claims.taken(&id).unwrap(), Some(claim.clone()));
    assert_eq!(claims.pending(&id).unwrap(), None);
    assert!(!claims.withdraw(&id).unwrap());
    assert!(claims.give_back(&id).unwrap());
    assert_eq!(claims.take(&id).unwrap(), Some(claim));
    assert!(claims.finish(&id).unwrap() && !claims.finish(&id).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn i1_of_many_takers_one_gets_it() {
    let (_dir, claims) = claims();
    let claim = claim("0123456789abcdef");
    for _ in 0..20 {
        claims.place(&claim).unwrap();
        let barrier = Barrier::new(4);
        let takes = || {
            barrier.wait();
            claims.take(&claim.container).unwrap().is_some()
        };
        let got: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(takes)).collect();
            threads
                .into_iter()
                .map(|thread| usize::from(thread.join().unwrap()))
                .sum()
        });
        assert_eq!(got, 1);
        claims.finish(&claim.container).unwrap();
    }
}

#[test]
fn another_claim_is_never_replaced() {
    let (_dir, claims) = claims();
    let (first, second) = (claim("0123456789abcdef"), claim("fedcba9876543210"));
    claims.place(&first).unwrap();
    assert!(matches!(
        claims.place(&second),
        Err(ClaimError::Occupied { taken: false, .. })
    ));
    claims.take(&first.container).unwrap();
    assert!(matches!(
        claims.place(&second),
        Err(ClaimError::Occupied { taken: true, .. })
    ));
    assert!(matches!(
        claims.place(&first),
        Err(ClaimError::Occupied { taken: true, .. })
    ));
    assert!(claims.finish(&first.container).unwrap());
    claims.place(&second).unwrap();
    assert!(claims.withdraw(&first.container).unwrap());
}

#[test]
fn a_claim_that_cannot_be_believed_is_an_error_and_stays_taken() {
    let (dir, claims) = claims();
    let good = claim("0123456789abcdef");
    let id = good.container.clone();
    let json = serde_json::to_string(&good).unwrap();
    let other = json.replace(&"ab".repeat(32), &"ef".repeat(32));
    let long = format!("{}{json}", " ".repeat(70_000));
    for text in ["", "{", "{\"version\": 2}", &other, &long] {
        fs::write(dir.path().join(id.as_str()), text).unwrap();
        assert!(claims.take(&id).is_err(), "{text:.40}");
        assert!(claims.take(&id).unwrap().is_none());
        claims.finish(&id).unwrap();
    }
}
