//! Holds the compile-fail tests of the attributes.
