//! A site with several gateways and several connection points, each a process of its own, with a role behind
//! them that writes down what reaches it, and a steady load of numbered requests.

pub(crate) mod door;
pub(crate) mod hosts;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod organisation;
pub(crate) mod recorder;
