//! The host's scores of drawn models are their definition; `cargo xtask on-target` runs the same on microcontrollers.

#![expect(clippy::cast_possible_truncation, reason = "drawn numbers are cut to the type under test")]

/// Shared with the firmware.
#[path = "firmware/src/drawn.rs"]
pub mod drawn;

#[test]
fn scores_of_drawn_models_are_their_definition() {
    let seed = std::env::var("NFM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x9E37_79B9);
    eprintln!("NFM_SEED={seed}");
    let mut drawn = Box::new(drawn::Drawn::new());
    let (scores, differ) = drawn.agree(seed, &mut |line| eprintln!("{line}"));
    assert!(scores > drawn::CASES, "{scores} scores");
    assert_eq!(differ, 0, "of {scores}");
}
