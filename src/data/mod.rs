//! Problems: where they come from and how they are read.

pub mod tiny;
