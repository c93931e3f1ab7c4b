//! Detection as an operator sets it up: the table `[detection]` of the settings file, and where findings are sent.

mod outputs;
mod settings;

pub(crate) use outputs::{Destination, start};
pub(crate) use settings::{Detection, FileDetection};
