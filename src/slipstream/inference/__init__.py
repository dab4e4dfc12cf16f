"""Using trained networks: evaluation on new data, predictions for whole files, reports and exports."""
