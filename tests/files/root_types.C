// The file root_types.root, written by ROOT 6.40: root -l -b -q root_types.C
// Every value is a formula of the entry k, which tests/test_root_files.py repeats.
#include <TFile.h>
#include <TTree.h>

#include <cstdint>
#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleWriter.hxx>

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

void trees(TFile &file) {
  auto folder = file.mkdir("ana");
  folder->cd();
  TTree tree("types", "types");
  tree.SetAutoFlush(20);
  Bool_t b; Char_t i8; UChar_t u8; Short_t i16; UShort_t u16; Int_t i32; UInt_t u32; Long64_t i64; ULong64_t u64;
  Float_t f; Double_t d; Float16_t h; Double32_t q; Double32_t arrayed[3]; Float_t layer[2][3]; UChar_t pixel[4];
  Int_t n; Float_t hits[8]; std::vector<float> cells; std::vector<std::vector<float>> nested; std::string text;
  struct { Float_t x; Float_t y; Int_t charge; } point;
  tree.Branch("b", &b, "b/O");
  tree.Branch("i8", &i8, "i8/B");
  tree.Branch("u8", &u8, "u8/b");
  tree.Branch("i16", &i16, "i16/S");
  tree.Branch("u16", &u16, "u16/s");
  tree.Branch("i32", &i32, "i32/I");
  tree.Branch("u32", &u32, "u32/i");
  tree.Branch("i64", &i64, "i64/L");
  tree.Branch("u64", &u64, "u64/l");
  tree.Branch("f", &f, "f/F");
  tree.Branch("d", &d, "d/D");
  tree.Branch("h", &h, "h/f[0,64,16]");
  tree.Branch("q", &q, "q/d[0,64,16]");
  tree.Branch("arrayed", arrayed, "arrayed[3]/d[0,64,16]");
  tree.Branch("layer", layer, "layer[2][3]/F");
  tree.Branch("pixel", pixel, "pixel[4]/b");
  tree.Branch("n", &n, "n/I");
  tree.Branch("hits", hits, "hits[n]/F");
  tree.Branch("cells", &cells);
  tree.Branch("nested", &nested);
  tree.Branch("text", &text);
  tree.Branch("point", &point, "x/F:y/F:charge/I");
  for (int k = 0; k < 60; ++k) {
    b = k % 3 == 0; i8 = k - 30; u8 = 4 * k; i16 = 1000 * (k - 30); u16 = 1000 * k; i32 = 100000 * (k - 30); u32 = 200000 * k;
    i64 = 100000 * (k - 30); u64 = 100000 * k; f = k / 8.f; d = k / 8.; h = k; q = k;
    for (int i = 0; i < 3; ++i) arrayed[i] = k;
    for (int i = 0; i < 6; ++i) layer[i / 3][i % 3] = 10 * k + i;
    for (int i = 0; i < 4; ++i) pixel[i] = k + i;
    n = k % 8;
    cells.clear();
    for (int i = 0; i < n; ++i) { hits[i] = k + i / 8.f; cells.push_back(-k - i / 8.f); }
    nested.assign(k % 3, cells);
    text = std::string(k % 4, 'x');
    point = {float(k), float(-k), k % 2};
    tree.Fill();
    if (k == 29) tree.Write();  // an older cycle
  }
  tree.Write();
  file.cd();
  TTree empty("empty", "empty");
  empty.Branch("f", &f, "f/F");
  empty.Write();
}

void ntuple(TFile &file) {
  auto model = ROOT::RNTupleModel::Create();
  auto b = model->MakeField<bool>("b");
  auto u8 = model->MakeField<std::uint8_t>("u8");
  auto i64 = model->MakeField<std::int64_t>("i64");
  auto f = model->MakeField<float>("f");
  auto layer = model->MakeField<std::array<std::array<float, 3>, 2>>("layer");
  auto cells = model->MakeField<std::vector<float>>("cells");
  auto text = model->MakeField<std::string>("text");
  auto maybe = model->MakeField<std::optional<float>>("maybe");
  auto writer = ROOT::RNTupleWriter::Append(std::move(model), "ntuple", file);
  for (int k = 0; k < 60; ++k) {
    *b = k % 3 == 0; *u8 = 4 * k; *i64 = 100000 * (k - 30); *f = k / 8.f;
    for (int i = 0; i < 6; ++i) (*layer)[i / 3][i % 3] = 10 * k + i;
    cells->clear();
    for (int i = 0; i < k % 8; ++i) cells->push_back(-k - i / 8.f);
    *text = "x";
    if (k % 2) *maybe = 1.f; else maybe->reset();
    writer->Fill();
    if (k == 29) writer->CommitCluster();
  }
}

void root_types() {
  TFile file("root_types.root", "RECREATE", "", 505);
  trees(file);
  ntuple(file);
  file.Close();
}
