# Daily work. CI runs the same recipes by way of the README's test command.

# List the recipes
default:
    @just --list

# Format, lints, and the tests that need nothing installed
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo test --workspace --locked

# Everything, installing what is missing (the README's second command)
test:
    ./test.sh

# All roles and a few devices on this machine (the README's first command)
lab *ARGS:
    cargo run --release --locked -- lab {{ARGS}}

# Write the generated pages anew
docs:
    cargo run --locked -- explain --page errors > docs/errors.md
    cargo run --locked -- explain --page endpoints > docs/endpoints.md

# Licences, bans, advisories (needs cargo-deny)
deny:
    cargo deny --locked check

# Fuzz one target for ten minutes (needs cargo-fuzz); the corpora also run as ordinary tests. What is found on the
# way is kept in fuzz/corpus-grown, which git does not see: move what is worth a test to fuzz/corpus
fuzz TARGET:
    mkdir -p fuzz/corpus-grown/{{TARGET}}
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} corpus-grown/{{TARGET}} corpus/{{TARGET}} -- -max_total_time=600
