"""Pure compilers: what is wanted in, tables and words out."""
