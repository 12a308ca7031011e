//! Guards with a name: `guard!("sink-1", condition)` is the condition. With the feature `mutants`
//! (tests only) a named guard can be taken out, and the simulation must then see the harm: a guard
//! nobody misses is either superfluous or untested.

/// The condition of a named guard; with the feature `mutants` false while the guard is taken out.
#[macro_export]
macro_rules! guard {
    ($name:literal, $condition:expr) => {{
        let condition = $condition;
        #[cfg(feature = "mutants")]
        let condition = condition && !$crate::runtime::guard::is_out($name);
        condition
    }};
}

#[cfg(feature = "mutants")]
thread_local! {
    static OUT: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Takes the guard called `name` out on this thread; `""` puts everything back.
#[cfg(feature = "mutants")]
pub fn take_out(name: &'static str) {
    OUT.set(name);
}

/// Whether the guard called `name` is taken out on this thread.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is_out(name: &str) -> bool {
    OUT.get() == name
}
