"""Who is in a cohort: scans, patients, grades, sites and files, from a folder or a table."""
