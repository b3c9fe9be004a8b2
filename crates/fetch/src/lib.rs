//! What the site fetches from elsewhere, because an administrator named the place.
