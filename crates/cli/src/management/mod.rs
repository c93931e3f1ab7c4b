//! Default Host Management from the command line: `inborn role` and `inborn nodes`.

mod arguments;
mod nodes;
mod roles;

pub(crate) use arguments::{NODES_HELP, Nodes, ROLE_HELP, Role};
pub(crate) use nodes::nodes;
pub(crate) use roles::role;
