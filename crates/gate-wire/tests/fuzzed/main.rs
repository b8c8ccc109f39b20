//! Bodies against other readers, made ones, and everything that the fuzz targets have found interesting, checked again on
//! each plain test run.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod generated;
mod property;
mod tee;
