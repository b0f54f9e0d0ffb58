//! The forms of a delegation, one for each provider or tool that keeps parent zones.
mod route53;
mod script;
mod terraform;
mod text;

use clap::ValueEnum;

use super::{Delegation, undotted};

/// The form of a delegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For reading, and for typing into a provider's pages
    Table,
    /// Lines of a zone file: BIND, NSD, Knot DNS, PowerDNS
    Bind,
    /// A change batch for `aws route53 change-resource-record-sets`
    Route53,
    /// Terraform, Amazon Route 53
    TerraformAws,
    /// Terraform, Google Cloud DNS
    TerraformGoogle,
    /// Terraform, Azure DNS
    TerraformAzurerm,
    /// A shell script of `gcloud` commands
    Gcloud,
    /// A shell script of `az` commands
    Azure,
    /// A script for `nsupdate` (RFC 2136)
    Nsupdate,
}

impl Delegation {
    /// Returns the delegation in that form, as a whole file.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Table => text::table(self),
            Form::Bind => text::zone_file(self),
            Form::Route53 => route53::change_batch(self),
            Form::TerraformAws => terraform::aws(self),
            Form::TerraformGoogle => terraform::google(self),
            Form::TerraformAzurerm => terraform::azurerm(self),
            Form::Gcloud => script::gcloud(self),
            Form::Azure => script::azure(self),
            Form::Nsupdate => script::nsupdate(self),
        }
    }

    /// Returns what to do with the file.
    pub fn next_step(&self, form: Form) -> String {
        let parent = undotted(&self.parent);
        match form {
            Form::Table => format!("enter these records at the provider of {parent}; other forms: --format"),
            Form::Bind => {
                format!("put these lines into the zone file of {parent}, raise its serial, reload it")
            }
            Form::Route53 => format!(
                "apply it: aws route53 change-resource-record-sets --hosted-zone-id ID-OF-{parent} \
                 --change-batch file://FILE"
            ),
            Form::TerraformAws | Form::TerraformGoogle | Form::TerraformAzurerm => {
                "put it beside the zone's own Terraform files, then terraform plan".to_owned()
            }
            Form::Gcloud => format!("apply it: MANAGED_ZONE=NAME-OF-{parent} sh FILE"),
            Form::Azure => format!("apply it: RESOURCE_GROUP=GROUP-OF-{parent} sh FILE"),
            Form::Nsupdate => format!("apply it: nsupdate -k KEY-FOR-{parent} FILE"),
        }
    }
}
