//! Processes that are measured: started, watched, ended.
