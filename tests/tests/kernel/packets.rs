//! The packet table through the kernel.
use dns_xdp::datapath::Variant;
use dns_xdp_tests::oracle::kernel;

#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_every_row_comes_out_as_the_table_says() {
    for variant in Variant::ALL {
        let run = kernel::run_table(variant).expect("the kernel takes the program");
        assert!(run.failures.is_empty(), "{} rows:\n{}", run.failures.len(), run.failures.join("\n"));
        assert!(run.rows > 400, "only {} rows reached the {variant} variant", run.rows);
    }
}
