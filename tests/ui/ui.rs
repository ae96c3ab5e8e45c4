//! Each file in `cases` has the mistake which it is named after, and the `.stderr` next to it says
//! what the compiler tells of it. After a change to the messages run this with `TRYBUILD=overwrite`
//! and read the difference.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
