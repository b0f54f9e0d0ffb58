//! Who answers for whom: a pure function of the cluster, the verdicts and the admin intent.
