"""One engine: methods x folds -> what each network says of the slices it was kept from; stopped runs continue."""
