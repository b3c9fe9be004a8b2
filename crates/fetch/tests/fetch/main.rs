//! What the site fetches, from real servers: the stand-in, an OpenID provider that is not ours, an
//! OpenLDAP server, and small web servers that misbehave.

mod crl;
mod directory;
mod graph;
mod keys;
mod provider;
mod support;
