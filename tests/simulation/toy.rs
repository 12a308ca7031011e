//! The harness is tested with products that are simple enough to judge by eye: one that does
//! nothing, one that is right as long as nothing fails, and broken ones that must be caught.
