//! What tests share: a clock that is set by hand, a store that injects faults.
