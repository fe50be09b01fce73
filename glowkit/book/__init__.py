"""What chapters are made with: checked parameters, pictures, figures, controls, and the ledger of claims."""
