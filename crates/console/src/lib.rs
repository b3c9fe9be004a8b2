//! What operators see: the REST API over the site's operations
