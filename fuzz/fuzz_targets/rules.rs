//! A rule file from a stranger: `cargo fuzz run rules`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (rules, problems) = tw_rules::Loader::new().add_file("fuzz.yaml", text).finish();
    let _ = rules.len();
    for problem in problems {
        let _ = problem.render(false);
    }
});
