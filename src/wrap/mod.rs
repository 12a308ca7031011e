//! What stands between the stages and a connector and is the same for all of them, so that no platform
//! brings rules of its own. Each wrapper has the contract's traits on both sides.

pub mod projection;
